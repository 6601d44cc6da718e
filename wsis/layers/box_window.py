"""The surroundings of a box at a size of their own, so that a rule measures every box alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from wsis.structures.boxes import box_to_slices, window_around


@dataclass(frozen=True)
class BoxWindow:
    """A window of an image, as it is and resized.

    Attributes:
        rows, columns: of the image.
        inside: (h, w) bool, the window's pixels that the box touches.
        size: height and width after resizing.
    """

    rows: slice
    columns: slice
    inside: np.ndarray
    size: tuple[int, int]

    def view(self, values: np.ndarray) -> np.ndarray:
        """The window of an image's values (H, W, ...), resized."""
        return resized(np.ascontiguousarray(values[self.rows, self.columns]), self.size)

    def view_of_box(self) -> np.ndarray:
        """:attr:`inside` resized, bool, at least one pixel."""
        share = resized(self.inside.astype(np.float32), self.size)
        return share >= min(0.5, float(share.max()))

    def box_in_view(self) -> tuple[slice, slice]:
        """Rows and columns of :meth:`view_of_box`."""
        inside = self.view_of_box()
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Values of the resized window, float32, at the window's own size (h, w)."""
        return resized(values, self.inside.shape)


def box_window(
    box: np.ndarray, scale: float, box_side: float, height: int, width: int
) -> BoxWindow:
    """The window around a box.

    Args:
        box: (4,) XYXY.
        scale: side of the window, in box sides.
        box_side: root of the box's area in the resized window, in pixels; 0 = as it is.
        height, width: size of the image.
    """
    rows, columns = window_around(box, scale, height, width)
    box_rows, box_columns = box_to_slices(box, height, width)
    inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
    inside[
        box_rows.start - rows.start : box_rows.stop - rows.start,
        box_columns.start - columns.start : box_columns.stop - columns.start,
    ] = True
    factor = box_side / math.sqrt(inside.sum()) if box_side else 1.0
    size_y, size_x = (max(round(side * factor), 1) for side in inside.shape)
    return BoxWindow(rows, columns, inside, (size_y, size_x))


def resized(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """An image or a map at another height and width: means of areas where it shrinks, else bilinear."""
    if values.shape[:2] == size:
        return values
    shrinks = math.prod(size) < values.shape[0] * values.shape[1]
    return cv2.resize(
        values, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
