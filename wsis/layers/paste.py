"""Small score maps put back into the image.

Masks of a Detectron2 model are pasted as Detectron2 does it, but on a window of the image. Beside it are the two
conventions that published methods were measured with: a min-max normalised map quantised to bytes
(BoxCaseg), and the older Mask R-CNN paste with a border of one cell (BBAM).
"""

from __future__ import annotations

import numpy as np
import torch
from detectron2.layers import paste_masks_in_image
from numpy.typing import ArrayLike
from PIL import Image
from torch.nn import functional

CONSTANT_RANGE = 1e-12
"""A map whose maximum and minimum are closer than this has no contrast to normalise."""


def place_crop(crop: np.ndarray, x0: int, y0: int, height: int, width: int) -> np.ndarray:
    """A crop in an otherwise zero image; what lies outside the image is cut off.

    Args:
        crop: (h, w) array of any type.
        x0, y0: image column and row of the crop's first pixel; may be negative.
        height, width: image size in pixels.

    Returns:
        (height, width), the crop's type.
    """
    out = np.zeros((height, width), dtype=crop.dtype)
    rows = slice(max(y0, 0), max(min(y0 + crop.shape[0], height), 0))
    columns = slice(max(x0, 0), max(min(x0 + crop.shape[1], width), 0))
    if rows.start < rows.stop and columns.start < columns.stop:
        out[rows, columns] = crop[
            rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0
        ]
    return out


def minmax_normalise(maps: np.ndarray) -> np.ndarray:
    """Each map stretched to [0, 1].

    Args:
        maps: (..., h, w) float.

    Returns:
        Same shape and type; a map without contrast becomes 0 (never NaN).
    """
    low = maps.min(axis=(-2, -1), keepdims=True)
    span = maps.max(axis=(-2, -1), keepdims=True) - low
    return np.divide(
        maps - low,
        span,
        out=np.zeros_like(maps),
        where=np.broadcast_to(span, maps.shape) > CONSTANT_RANGE,
    )


def quantise(normalised: np.ndarray) -> np.ndarray:
    """Normalised maps as bytes, floor(255 p).

    Args:
        normalised: float in [0, 1], of any shape.

    Returns:
        uint8 of the same shape.
    """
    return (normalised * 255).astype(np.uint8)


def byte_mask(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map of bytes as a binary mask of its box: PIL's bilinear resize (antialiased when shrinking), foreground where
    value / 255 > 0.5.

    Args:
        values: (h, w) uint8.
        height, width: size of the box in pixels; 0 gives an empty array.

    Returns:
        (height, width) bool.
    """
    if height <= 0 or width <= 0:
        return np.zeros((max(height, 0), max(width, 0)), dtype=bool)
    image = Image.fromarray(values)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) > 127


def bordered_crop(
    probability: np.ndarray, box: ArrayLike, height: int, width: int
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A square map resized to its box in the older Mask R-CNN way.

    The map gets a border of one zero cell, the box grows by the same share, is truncated to
    integers and clipped to [0, width] x [0, height]; the map is stretched (bilinear, half-pixel
    centres) over columns x0..x1 and rows y0..y1, both ends included. Clipping before stretching
    squeezes the map of a box that reaches over the image border; the published numbers have it so.

    Args:
        probability: (M, M) float in [0, 1].
        box: (4,) XYXY in image pixels.
        height, width: image size in pixels.

    Returns:
        The crop, (h, w) float32, cut to the image (empty for a box wholly outside), and the integer
        box (x0, y0, x1, y1).
    """
    corners = np.asarray(box, dtype=np.float32)
    scale = (probability.shape[0] + 2) / probability.shape[0]
    centre, half = (corners[2:] + corners[:2]) * 0.5, (corners[2:] - corners[:2]) * 0.5 * scale
    near, far = (centre - half).astype(np.int64), (centre + half).astype(np.int64)
    x0, y0 = (int(v) for v in np.maximum(near, 0))
    x1, y1 = (int(v) for v in np.minimum(far, (width, height)))
    bordered = functional.pad(
        torch.from_numpy(np.asarray(probability, dtype=np.float32)), (1, 1, 1, 1)
    )
    crop = functional.interpolate(
        bordered[None, None],
        size=(max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1)),
        mode="bilinear",
        align_corners=False,
    )[0, 0].numpy()
    rows, columns = (
        max(min(high + 1, size) - low, 0) for high, low, size in ((y1, y0, height), (x1, x0, width))
    )
    return crop[:rows, :columns], (x0, y0, x1, y1)


def box_crop(
    probability: np.ndarray, box: ArrayLike, height: int, width: int, threshold: float = 0.5
) -> tuple[np.ndarray, int, int]:
    """Detectron2's ``paste_masks_in_image`` of one mask, on the window that its box touches: the same pixels, and
    memory that does not grow with the image.

    Args:
        probability: (M, M) float32 in [0, 1].
        box: (4,) XYXY in image pixels.
        height, width: image size in pixels.
        threshold: from which a pixel belongs to the mask; below 0 = none, and what it returns is the probability,
            (h, w) uint8 of 255.

    Returns:
        The mask on the window, (h, w) bool, and the window's first column and row. It has at least one pixel.
    """
    corners = np.asarray(box, dtype=np.float32)
    last = np.array([width - 1, height - 1])
    x0, y0 = (int(v) for v in np.clip(np.floor(corners[:2]) - 1, 0, last))
    x1, y1 = (int(v) for v in np.clip(np.ceil(corners[2:]) + 1, (x0 + 1, y0 + 1), (width, height)))
    mask = paste_masks_in_image(
        torch.as_tensor(probability)[None],
        torch.from_numpy(corners - np.array([x0, y0, x0, y0], dtype=np.float32))[None],
        (y1 - y0, x1 - x0),
        threshold,
    )
    return mask[0].numpy(), x0, y0
