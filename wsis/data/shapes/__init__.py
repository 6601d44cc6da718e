"""The procedural `shapes` dataset: five kinds of textured form on textured backgrounds.

Everything is drawn from NumPy generators seeded by (seed, split, index), so that an image does not
depend on how many others are made, or by how many processes. `draw_scene` makes one image in
memory; `prepare_shapes` writes the whole dataset to disk.
"""

from wsis.data.shapes.dataset import CATEGORIES, ShapesSpec, prepare_shapes
from wsis.data.shapes.scene import Scene, draw_scene

__all__ = ["CATEGORIES", "Scene", "ShapesSpec", "draw_scene", "prepare_shapes"]
