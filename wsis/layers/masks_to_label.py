"""Semantic pseudo labels from the masks of all boxes of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from wsis.layers.paste import place_crop
from wsis.structures import Crop
from wsis.structures.pseudo_labels import IGNORE


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
    labels: ArrayLike,
    boxes: ArrayLike,
    foreground: Sequence[Crop],
    region: Sequence[Crop],
    height: int,
    width: int,
) -> np.ndarray:
    """One label per pixel.

    A pixel in masks of one class gets it, in those of several is ignored; boxes inside other boxes then write their
    masks over it, the largest first; last, what is uncertain for any box is ignored.

    Args:
        labels: (N,) integer class ids, 1 to 254; 0 is background.
        boxes: (N, 4) XYXY.
        foreground: N masks on windows of the image.
        region: N masks, foreground or uncertain, likewise.
        height, width: image size in pixels.

    Returns:
        (height, width) uint8, 255 = ignore; all background for an image without boxes.
    """
    ids = np.asarray(labels, dtype=np.int64).reshape(-1)
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    out = np.zeros((height, width), dtype=np.uint8)
    taken = np.zeros_like(out)
    for label in np.unique(ids):
        covered = np.zeros(out.shape, dtype=bool)
        for i in np.flatnonzero(ids == label).tolist():
            _window(covered, foreground[i])[foreground[i][0]] = True
        taken += covered
        out[covered] = label
    out[taken > 1] = IGNORE
    area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    inner = contained_boxes(corners)
    for i in np.argsort(-area, kind="stable").tolist():
        if inner[i]:
            _window(out, foreground[i])[foreground[i][0]] = ids[i]
    for certain, possible in zip(foreground, region, strict=True):
        doubtful = place_crop(*possible, height, width)
        _window(doubtful, certain)[certain[0]] = False
        out[doubtful] = IGNORE
    return out


def _window(canvas: np.ndarray, crop: Crop) -> np.ndarray:
    """The pixels of an image that a mask on a window is about, to be written to."""
    mask, x0, y0 = crop
    return canvas[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
