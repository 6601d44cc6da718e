"""Semantic pseudo labels from the masks of all boxes of an image (spec 5.4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

IGNORE = 255


def contained_boxes(boxes: ArrayLike) -> np.ndarray:
    """Which boxes lie inside another one; edges may touch, equal boxes do not count.

    Args:
        boxes: (N, 4) XYXY.

    Returns:
        (N,) bool.
    """
    corners = np.asarray(boxes).reshape(-1, 4)
    inner, outer = corners[:, None], corners[None]
    inside = (inner[..., :2] >= outer[..., :2]) & (inner[..., 2:] <= outer[..., 2:])
    return (inside.all(axis=-1) & (inner != outer).any(axis=-1)).any(axis=1)


def semantic_label(
    labels: ArrayLike, boxes: ArrayLike, foreground: np.ndarray, region: np.ndarray
) -> np.ndarray:
    """One label per pixel.

    A pixel in masks of one class gets it, in those of several is ignored; boxes inside other boxes
    then write their masks over it, the largest first; last, what is uncertain for any box is
    ignored.

    Args:
        labels: (N,) integer class ids, 1 to 254; 0 is background.
        boxes: (N, 4) XYXY.
        foreground: (N, H, W) bool.
        region: (N, H, W) bool, foreground or uncertain.

    Returns:
        (H, W) uint8, 255 = ignore; all background for an image without boxes.
    """
    ids = np.asarray(labels, dtype=np.int64).reshape(-1)
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    foreground, region = foreground.astype(bool), region.astype(bool)
    out = np.zeros(foreground.shape[1:], dtype=np.uint8)
    taken = np.zeros(out.shape, dtype=np.int64)
    for label in np.unique(ids):
        covered = foreground[ids == label].any(axis=0)
        taken += covered
        out[covered] = label
    out[taken > 1] = IGNORE
    area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    inner = contained_boxes(corners)
    for i in np.argsort(-area, kind="stable"):
        if inner[i]:
            out[foreground[i]] = ids[i]
    out[(region & ~foreground).any(axis=0)] = IGNORE
    return out
