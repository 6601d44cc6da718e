"""An attribution mask brought to the size of the original image."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch.nn import functional


def map_at_image(
    mask: np.ndarray, height: int, width: int, aligned: bool = True
) -> np.ndarray | None:
    """A mask with its minimum taken off and its maximum at 1, at image size.

    Args:
        mask: (h, w) float or uint8, at least 0, of the whole image.
        height, width: size of the original image in pixels.
        aligned: True puts the outermost cells on the outermost pixels, as the optimisation has them;
            False stretches with half-pixel centres, as the reference reads its stored pictures.

    Returns:
        (H, W) float32 in [0, 1], or None for a mask without contrast (nothing to go by, pitfall P9).
    """
    values = mask.astype(np.float32)
    values -= values.min()
    highest = values.max()
    if not highest > 0:
        return None
    values /= highest
    if not aligned:
        return cv2.resize(values, (width, height))
    stretched = functional.interpolate(
        torch.from_numpy(values)[None, None], (height, width), mode="bilinear", align_corners=True
    )
    return stretched[0, 0].numpy()


def stored_picture(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask as the reference stores it, before the loss of JPEG (spec 4.5, pitfall P8).

    Args:
        mask: (h, w) float in [0, 1].
        height, width: network size of the image.

    Returns:
        (H / 2, W / 2) uint8, the sides rounded, halves to even.
    """
    return cv2.resize((mask * 255).astype(np.uint8), (round(width / 2), round(height / 2)))
