"""One box to one mask, four ways. Plain functions on arrays.

Boxes are (4,) XYXY in continuous pixel coordinates (see :mod:`wsis.structures.boxes`), cut to the
image; a mask is returned as a :data:`wsis.structures.Crop`: the window's (h, w) bool mask with the
column and row of its first pixel.
"""

from __future__ import annotations

import cv2
import numpy as np

from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.structures import Crop
from wsis.structures.boxes import box_to_slices, window_around

MIN_PIXELS = 5
"""GrabCut fits five colour components to the pixels inside and outside: it needs as many of each."""


def filled_box(box: np.ndarray, height: int, width: int) -> Crop:
    """Every pixel that the box touches.

    Args:
        box: (4,) XYXY.
        height, width: size of the image.
    """
    rows, columns = box_to_slices(box, height, width)
    filled = np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
    return filled, columns.start, rows.start


def inscribed_ellipse(box: np.ndarray, height: int, width: int) -> Crop:
    """Every pixel whose centre lies in the ellipse that touches the box's four sides.

    The pixel nearest to the box's centre always belongs to it, so no box gives an empty mask.

    Args:
        box: (4,) XYXY.
        height, width: size of the image.
    """
    rows, columns = box_to_slices(box, height, width)
    x0, y0, x1, y1 = (float(v) for v in box)
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    dx = (np.arange(columns.start, columns.stop) + 0.5 - centre_x) / max((x1 - x0) / 2, 1e-6)
    dy = (np.arange(rows.start, rows.stop) + 0.5 - centre_y) / max((y1 - y0) / 2, 1e-6)
    distance = dy[:, None] ** 2 + dx[None, :] ** 2
    inside = distance <= 1
    inside[np.unravel_index(distance.argmin(), distance.shape)] = True
    return inside, columns.start, rows.start


def _in_window(image: np.ndarray, box: np.ndarray, scale: float) -> tuple[slice, slice, np.ndarray]:
    """The window around a box and, on it, which pixels the box touches."""
    height, width = image.shape[:2]
    rows, columns = window_around(box, scale, height, width)
    box_rows, box_columns = box_to_slices(box, height, width)
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
    inside[
        box_rows.start - rows.start : box_rows.stop - rows.start,
        box_columns.start - columns.start : box_columns.stop - columns.start,
    ] = True
    return rows, columns, inside


def grabcut(image: np.ndarray, box: np.ndarray, iterations: int, window: float) -> Crop | None:
    """GrabCut (Rother et al. 2004, OpenCV): the box is probably, its surroundings surely known.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) XYXY.
        iterations: rounds of colour model and cut.
        window: side of the window that is looked at, in box sides.

    Returns:
        The mask, inside the box; None where the colour models cannot be fitted (fewer than
        :data:`MIN_PIXELS` pixels on a side, such as a box that fills the image) or nothing is left.
    """
    rows, columns, inside = _in_window(image, box, window)
    if inside.sum() < MIN_PIXELS or (~inside).sum() < MIN_PIXELS:
        return None
    labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # the colour models start from a random clustering
    patch = np.ascontiguousarray(image[rows, columns])
    box_unused = (0, 0, 1, 1)  # the labels say where the box is
    mode = cv2.GC_INIT_WITH_MASK
    cv2.grabCut(patch, labels, box_unused, background, foreground, iterations, mode)
    mask = ((labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD)) & inside
    return (mask, columns.start, rows.start) if mask.any() else None


def box_crf(
    image: np.ndarray,
    box: np.ndarray,
    params: DenseCRFParams,
    prior: float,
    threshold: float,
    window: float,
) -> Crop | None:
    """A constant foreground probability in the box, zero outside, through a dense CRF.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) XYXY.
        params: of the dense CRF.
        prior: foreground probability in the box before the CRF, in (0, 1).
        threshold: of the probability after it.
        window: side of the window that is looked at, in box sides.

    Returns:
        The mask, inside the box, or None where nothing is left.
    """
    rows, columns, inside = _in_window(image, box, window)
    foreground = np.where(inside, prior, 0.0).astype(np.float32)
    patch = np.ascontiguousarray(image[rows, columns])
    result = dense_crf(patch, np.stack([foreground, 1 - foreground]), params)
    mask = (result[0] > threshold) & inside
    return (mask, columns.start, rows.start) if mask.any() else None
