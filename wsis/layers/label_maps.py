"""From per-class score maps to one label map, and from the maps of several scales to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional


def labels_from_maps(
    maps: np.ndarray, class_ids: np.ndarray, background: float | np.ndarray
) -> np.ndarray:
    """The label of the highest map; background wins its ties, else the earlier map.

    Args:
        maps: (M, H, W) float scores of the classes at hand, M may be 0.
        class_ids: (M,) integer labels that the maps stand for.
        background: score of label 0, a constant or (H, W), on the same scale as the maps.

    Returns:
        (H, W) int64, 0 = background.
    """
    if len(maps) == 0:
        return np.zeros(maps.shape[1:], dtype=np.int64)
    labels = np.asarray(class_ids, dtype=np.int64)[maps.argmax(axis=0)]
    return np.where(maps.max(axis=0) > background, labels, 0)


def mean_over_scales(
    maps: Sequence[torch.Tensor],
    flipped: Sequence[bool],
    size: tuple[int, int],
    align_corners: bool,
) -> torch.Tensor:
    """The mean of maps resized to one size, mirrored ones turned back first.

    Args:
        maps: tensors (N, C, h_i, w_i), at least one.
        flipped: per map, whether it was made from the horizontally mirrored image.
        size: height and width of the result.
        align_corners: of the bilinear resize.

    Returns:
        (N, C, H, W).
    """
    total = maps[0].new_zeros(())
    for scores, mirrored in zip(maps, flipped, strict=True):
        resized = functional.interpolate(
            scores, size=size, mode="bilinear", align_corners=align_corners
        )
        total = total + (resized.flip(-1) if mirrored else resized)
    return total / len(maps)
