"""Overlap of boxes, and of masks with boxes. Two empty regions have IoU 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def ratio(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """intersection / union, 0 where the union is empty."""
    return np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0)


def box_iou(first: ArrayLike, second: ArrayLike, inclusive: bool = False) -> np.ndarray:
    """IoU of boxes, paired; for all pairs give ``first[:, None]`` and ``second[None]``.

    Args:
        first, second: (..., 4) XYXY, leading axes broadcast.
        inclusive: False: the far edge is not part of the box, sides are x1 - x0. True: corners are
            pixel indices and belong to the box, sides are x1 - x0 + 1 (VOC, BoxCaseg's confidence,
            CAM localisation).

    Returns:
        (...) float64 in [0, 1]; a box with a negative side counts as empty.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    extra = 1.0 if inclusive else 0.0

    def area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return (high - low + extra).clip(min=0).prod(axis=-1)

    intersection = area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    union = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - intersection
    return ratio(np.asarray(intersection), np.asarray(union))


def class_means(values: ArrayLike, classes: ArrayLike, num_classes: int) -> np.ndarray:
    """Mean of per-instance values (IoUs) within each class.

    Args:
        values: (N,) float.
        classes: (N,) int in [0, num_classes).
        num_classes: C.

    Returns:
        (C,) float64, NaN for a class without instance. (BoxCaseg's mIoU* takes the mean with such
        classes as 0.)
    """
    index = np.asarray(classes, dtype=np.int64)
    count = np.bincount(index, minlength=num_classes)
    total = np.bincount(index, weights=np.asarray(values, dtype=np.float64), minlength=num_classes)
    return np.divide(total, count, out=np.full(num_classes, np.nan), where=count > 0)
