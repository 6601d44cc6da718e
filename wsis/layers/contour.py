"""Boundary F-score of label maps, pooled over a data set, after the DAVIS 2017 measure."""

from __future__ import annotations

import math

import numpy as np

BOUNDARY_TOLERANCE = 0.008
"""Matching radius as a share of the image diagonal."""
_LARGE = 16
"""Radius from which distances take less time than a disk."""


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour in the image.

    Args:
        mask: (H, W) bool or integer, non-zero = inside.

    Returns:
        (H, W) bool.
    """
    inside = np.asarray(mask, dtype=bool)
    out = np.zeros(inside.shape, dtype=bool)
    out[:, :-1] |= inside[:, :-1] ^ inside[:, 1:]
    out[:-1] |= inside[:-1] ^ inside[1:]
    out[:-1, :-1] |= inside[:-1, :-1] ^ inside[1:, 1:]
    return out


def matching_radius(height: int, width: int) -> int:
    """Distance in pixels within which two boundaries match: ceil(0.008 * diagonal)."""
    return math.ceil(BOUNDARY_TOLERANCE * math.hypot(height, width))


def _dilate(boundary: np.ndarray, radius: int) -> np.ndarray:
    """Dilation by the disk dx^2 + dy^2 <= radius^2."""
    import cv2

    if radius >= _LARGE:
        outside = (~boundary).astype(np.uint8)
        return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius
    offset = np.arange(-radius, radius + 1)
    disk = (offset[:, None] ** 2 + offset[None] ** 2 <= radius**2).astype(np.uint8)
    return cv2.dilate(boundary.astype(np.uint8), disk).astype(bool)


def _present(*maps: np.ndarray) -> list[int]:
    """The labels that some of several uint8 maps have."""
    import cv2

    histograms = [cv2.calcHist([labels], [0], None, [256], [0, 256]) for labels in maps]
    return [int(label) for label in np.flatnonzero(np.sum(histograms, axis=0))]


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a mask with something in it, and one more on each side."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(max(0, rows[0] - 1), rows[-1] + 2), slice(max(0, columns[0] - 1), columns[-1] + 2)


def boundary_counts(true: np.ndarray, found: np.ndarray, radius: int) -> np.ndarray:
    """Boundary pixels of two masks.

    Args:
        true, found: (H, W) bool; of a window, one pixel more than the masks have on each side that the image has.
        radius: within which boundaries match.

    Returns:
        (4,) int64: matched true boundary, matched found boundary, true boundary, found boundary.
    """
    true, found = boundary_map(true), boundary_map(found)
    counts = np.array([0, 0, true.sum(), found.sum()], dtype=np.int64)
    if counts[2:].all():
        counts[0] = np.count_nonzero(true & _dilate(found, radius))
        counts[1] = np.count_nonzero(found & _dilate(true, radius))
    return counts


def contour_counts(target: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Boundary pixels of one image, per class; sum over the images before :func:`contour_f`. Only classes that are
    there are looked at, and those only where they are.

    Args:
        target: (H, W) labels 0 to 255, 0 = background; void (255) counts as background.
        prediction: (H, W) likewise.
        num_classes: C, background not included; classes are 1..C.

    Returns:
        (C, 4) int64: matched target boundary, matched predicted boundary, target boundary,
        predicted boundary.

    Raises:
        ValueError: shapes differ.
    """
    if target.shape != prediction.shape:
        raise ValueError(f"target is {target.shape}, prediction {prediction.shape}")
    radius = matching_radius(*target.shape)
    counts = np.zeros((num_classes, 4), dtype=np.int64)
    target, prediction = (np.ascontiguousarray(m, dtype=np.uint8) for m in (target, prediction))
    for label in _present(target, prediction):
        if not 1 <= label <= num_classes:
            continue
        window = _window((target == label) | (prediction == label))
        true, found = (labels[window] == label for labels in (target, prediction))
        counts[label - 1] = boundary_counts(true, found, radius)
    return counts


def contour_f(counts: np.ndarray, absent: float = np.nan) -> np.ndarray:
    """F = 2 P R / (P + R) per class.

    Args:
        counts: (C, 4) as :func:`contour_counts`, summed over the data set.
        absent: F of a class that has no boundary on either side; 1 in the published measure, which few images inflate.

    Returns:
        (C,) float64 in [0, 1]: 0 where only one side has a boundary.
    """
    matched_true, matched_found, true, found = counts.T.astype(np.float64)
    precision = np.divide(matched_found, found, out=np.zeros(found.shape), where=found > 0)
    recall = np.divide(matched_true, true, out=np.zeros(true.shape), where=true > 0)
    total = precision + recall
    score = np.divide(2 * precision * recall, total, out=np.zeros(total.shape), where=total > 0)
    score[(true == 0) & (found == 0)] = absent
    return score
