"""Windows around boxes: what a method of box crops sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image


def draw_jitter(
    rng: np.random.Generator, number: int, shift: float, scale: tuple[float, float]
) -> np.ndarray:
    """Random numbers for :func:`jittered_windows`.

    Args:
        rng: source of the numbers; each row is drawn from left to right.
        number: N.
        shift: largest shift of the centre, in half sides.
        scale: smallest and largest factor of the half sides.

    Returns:
        (N, 4) float64: shift in x and in y, factor of the width and of the height.
    """
    low, high = (-shift, -shift, scale[0], scale[0]), (shift, shift, scale[1], scale[1])
    return rng.uniform(low, high, (number, 4))


def jittered_windows(
    boxes: ArrayLike, jitter: ArrayLike, height: int, width: int, *, guard: bool = True
) -> np.ndarray:
    """A window of whole pixels around each box, shifted and scaled.

    cx = (x0 + x1) / 2 + u_x (x1 - x0) / 2, X0 = int(max(0, cx - r_x hw)), X1 = int(min(W - 1, cx + r_x hw)) with
    hw = (x1 - x0) / 2, and so in y (BoxCaseg; the last column and row are never seen).

    Args:
        boxes: (N, 4) XYXY in pixels, far edges exclusive.
        jitter: (N, 4) u_x, u_y, r_x, r_y, see :func:`draw_jitter`.
        height, width: image size in pixels.
        guard: give a window without pixels the column (row) before it, or the first one at the image's near edge.

    Returns:
        (N, 4) int64 X0, Y0, X1, Y1, far edges exclusive, inside the image; none is empty with the guard.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    numbers = np.asarray(jitter, dtype=np.float64).reshape(-1, 4)
    side, last = corners[:, 2:] - corners[:, :2], np.array([width - 1, height - 1])
    centre = (corners[:, :2] + corners[:, 2:]) / 2 + numbers[:, :2] * side / 2
    reach = numbers[:, 2:] * side / 2
    near = (centre - reach).clip(0, last).astype(np.int64)
    far = (centre + reach).clip(0, last).astype(np.int64)
    if guard:
        empty = far <= near
        near = np.where(empty, np.maximum(near - 1, 0), near)
        far = np.where(empty, near + 1, far)
    return np.concatenate([near, far], axis=1)


def context_windows(boxes: ArrayLike, factors: ArrayLike) -> np.ndarray:
    """Windows of whole pixels that show boxes and what is around them; they may reach beyond the image.

    Args:
        boxes: (N, 4) XYXY in pixels.
        factors: of the sides about the centre, one or N of them.

    Returns:
        (N, 4) int64 XYXY, far edges exclusive, none empty.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    centre, side = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    reach = side * np.asarray(factors, dtype=np.float64).reshape(-1, 1) / 2
    near, far = np.floor(centre - reach), np.ceil(centre + reach)
    return np.concatenate([near, np.maximum(far, near + 1)], axis=1).astype(np.int64)


def padded_crop(image: np.ndarray, window: ArrayLike, size: int, colour: ArrayLike) -> np.ndarray:
    """A window of an image as a square, its aspect ignored (bilinear, antialiased).

    Args:
        image: (H, W, 3) uint8.
        window: (4,) integers, XYXY, far edges exclusive.
        size: S.
        colour: of what lies beyond the image, 3 values.

    Returns:
        (S, S, 3) uint8.
    """
    x0, y0, x1, y1 = (int(v) for v in np.asarray(window))
    seen = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    full = np.empty((y1 - y0, x1 - x0, 3), dtype=np.uint8)
    full[:] = np.asarray(colour).round()
    top, left = max(-y0, 0), max(-x0, 0)
    full[top : top + len(seen), left : left + seen.shape[1]] = seen
    resized = Image.fromarray(full).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)
