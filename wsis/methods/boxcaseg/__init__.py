"""BoxCaseg, a class-agnostic segmenter from boxes and salient images (Wang et al., CVPR 2021).

A network cuts the object out of a box. It learns where objects end from the boxes themselves (each row and column of
a box meets its object) and what objects look like from images of single salient objects with masks, of whatever
class. Trains on boxes and such images; returns one mask per box with a confidence, by which a student may choose.
"""

from wsis.methods.boxcaseg import key_map as _key_map  # noqa: F401  # names of weights
from wsis.methods.boxcaseg.meta_arch import BoxCaseg

__all__ = ["BoxCaseg"]
