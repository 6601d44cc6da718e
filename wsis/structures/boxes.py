"""Boxes against the pixel grid.

Boxes are XYXY in continuous pixel coordinates: pixel (row r, column c) is the unit square [c, c+1) x [r, r+1), so the
tight box of a mask is half-open and a full image is (0, 0, width, height).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def xywh_to_xyxy(boxes: ArrayLike) -> np.ndarray:
    """COCO boxes to corner form.

    Args:
        boxes: (N, 4) or (4,) x, y, width, height.

    Returns:
        Same shape, float64, x0, y0, x1, y1.
    """
    out = np.array(boxes, dtype=np.float64)
    out[..., 2:] += out[..., :2]
    return out


def clip_boxes(boxes: ArrayLike, height: int, width: int) -> np.ndarray:
    """Boxes cut to the image.

    Args:
        boxes: (N, 4) or (4,) XYXY.
        height, width: image size in pixels.

    Returns:
        Same shape, float64; a box wholly outside has zero width or height.
    """
    out = np.array(boxes, dtype=np.float64)
    out[..., 0::2] = out[..., 0::2].clip(0, width)
    out[..., 1::2] = out[..., 1::2].clip(0, height)
    return out


def box_around_rotated(box: ArrayLike, degrees: float) -> np.ndarray:
    """The upright box around a box that was rotated about its centre.

    Args:
        box: (4,) XYXY before.
        degrees: by how much, in either sense.

    Returns:
        (4,) float64.
    """
    corners = np.array(box, dtype=np.float64)
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    centre, half = (corners[:2] + corners[2:]) / 2, (corners[2:] - corners[:2]) / 2
    reach = np.array([[cos, sin], [sin, cos]]) @ half
    return np.concatenate([centre - reach, centre + reach])


def box_to_slices(box: ArrayLike, height: int, width: int) -> tuple[slice, slice]:
    """The pixels that a box touches, as ``mask[rows, columns]``.

    Args:
        box: (4,) XYXY.
        height, width: image size in pixels, both at least 1.

    Returns:
        Row and column slices: floor of the near edge to ceil of the far edge, inside the image, never empty.
    """
    x0, y0, x1, y1 = (float(v) for v in np.asarray(box, dtype=np.float64))

    def span(low: float, high: float, size: int) -> slice:
        start = min(max(math.floor(low), 0), size - 1)
        return slice(start, min(max(math.ceil(high), start + 1), size))

    return span(y0, y1, height), span(x0, x1, width)


def window_around(box: np.ndarray, scale: float, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the window with the box's centre and ``scale`` times its sides.

    Args:
        box: (4,) XYXY.
        scale: above 0.
        height, width: image size in pixels, both at least 1.

    Returns:
        Row and column slices, see :func:`box_to_slices`.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    grow_x, grow_y = (x1 - x0) * (scale - 1) / 2, (y1 - y0) * (scale - 1) / 2
    grown = np.array([x0 - grow_x, y0 - grow_y, x1 + grow_x, y1 + grow_y])
    return box_to_slices(grown, height, width)


def mask_to_box(mask: np.ndarray) -> np.ndarray | None:
    """The tight box of a mask.

    Args:
        mask: (H, W) bool or integer, non-zero = inside.

    Returns:
        (4,) float64 XYXY, half-open, or None for an empty mask.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


def shift_near_edges(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) XYXY with near edges one pixel further right and down, as the original release reads VOC's."""
    return boxes + np.array([1, 1, 0, 0], dtype=boxes.dtype)
