"""A pasted mask refined by the dense CRF, small objects magnified first."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.layers.paste import bordered_crop, place_crop

SATURATED_SHARE, SATURATED_SHARE_TINY = 0.15, 0.20
"""Share of the pasted pixels that becomes probability 1; the second up to TINY_PIXELS pixels."""
TINY_PIXELS = 100
ZOOM_BELOW_PIXELS = 20_000
"""Objects with fewer pasted pixels are refined in a magnified window."""
ZOOM = 3
"""The window leaves out 1 - 1/ZOOM of each margin around the box and is resized to the image."""


def saturate(crop: np.ndarray) -> np.ndarray:
    """A score map divided by the value at a fixed rank, so that its top share becomes 1.

    Args:
        crop: (h, w) float in [0, 1], at least one pixel.

    Returns:
        (h, w), same type, in [0, 1].
    """
    share = SATURATED_SHARE_TINY if crop.size <= TINY_PIXELS else SATURATED_SHARE
    rank = crop.size - 1 - int(share * crop.size)
    return (crop / (np.partition(crop, rank, axis=None)[rank] + 1e-8)).clip(0, 1)


def _foreground(image: np.ndarray, probability: np.ndarray, params: DenseCRFParams) -> np.ndarray:
    return dense_crf(image, np.stack([probability, 1 - probability]), params)[0]


def paste_with_crf(
    image: np.ndarray, probability: np.ndarray, box: ArrayLike, params: DenseCRFParams
) -> np.ndarray:
    """:func:`wsis.layers.paste.bordered_crop`, saturated and refined on the image.

    Args:
        image: (H, W, 3) uint8 (published numbers: BGR; see ``DenseCRF`` on the order).
        probability: (M, M) float in [0, 1].
        box: (4,) XYXY in image pixels.
        params: CRF kernel and steps.

    Returns:
        (H, W) bool, marginal of the foreground above 0.5.
    """
    import cv2

    height, width = image.shape[:2]
    crop, (x0, y0, x1, y1) = bordered_crop(probability, box, height, width)
    if crop.size == 0:
        return np.zeros((height, width), dtype=bool)
    unary = place_crop(saturate(crop), x0, y0, height, width)
    if crop.size >= ZOOM_BELOW_PIXELS:
        return _foreground(image, unary, params) > 0.5
    left, top = int(x0 * (1 - 1 / ZOOM)), int(y0 * (1 - 1 / ZOOM))
    right = max(int((width + (ZOOM - 1) * x1) / ZOOM), left + 1)
    bottom = max(int((height + (ZOOM - 1) * y1) / ZOOM), top + 1)
    window = (slice(top, bottom), slice(left, right))
    refined = _foreground(
        cv2.resize(image[window], (width, height)),
        cv2.resize(unary[window], (width, height)),
        params,
    )
    small = cv2.resize(refined, (right - left, bottom - top))
    return place_crop(small > 0.5, left, top, height, width)
