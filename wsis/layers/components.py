"""From a semantic label to objects, where nobody has drawn boxes: one per connected component."""

from __future__ import annotations

import numpy as np
from skimage.measure import label as components_of
from skimage.measure import regionprops

from wsis.structures.pseudo_labels import IGNORE


def components(label: np.ndarray, min_share: float) -> tuple[list[tuple[int, np.ndarray]], int]:
    """Connected components (8 neighbours) of each class.

    Args:
        label: (H, W) uint8, 0 = background, 255 = nothing is known.
        min_share: of the image's area.

    Returns:
        Class, 1 = the first one, and mask (H, W) bool of each, by class, then by the first row; and how many were left
        out because they are smaller.
    """
    objects = components_of(np.where(label == IGNORE, 0, label), connectivity=2)
    regions = regionprops(objects)
    large = [region for region in regions if region.area >= min_share * label.size]
    found = [(int(label[tuple(region.coords[0])]), objects == region.label) for region in large]
    return sorted(found, key=lambda pair: pair[0]), len(regions) - len(large)
