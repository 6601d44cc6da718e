"""Boxes into the network, its maps out of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from wsis.layers.paste import minmax_normalise, quantise
from wsis.methods.boxcaseg.transforms import box_pixels
from wsis.structures.boxes import box_to_slices


def prepare_crops(image: np.ndarray, boxes: ArrayLike, size: int, normalisation: str) -> Tensor:
    """The pixels of each box as the network sees them, without any margin.

    Args:
        image: (H, W, 3) uint8 RGB, original size.
        boxes: (N, 4) XYXY in original pixels; every pixel that a box touches belongs to it, one at least. Integer
            boxes are so exactly image[y0:y1, x0:x1].
        size: S.
        normalisation: see :func:`wsis.methods.boxcaseg.transforms.box_pixels`.

    Returns:
        (N, 3, S, S) float32.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    out = np.empty((len(corners), 3, size, size), dtype=np.float32)
    for box, target in zip(corners, out, strict=True):
        box_pixels(image[box_to_slices(box, *image.shape[:2])], size, normalisation, target)
    return torch.from_numpy(out)


def byte_maps(probabilities: Tensor | np.ndarray) -> np.ndarray:
    """Probabilities as they are kept: each map stretched to [0, 1], then floor(255 p).

    Args:
        probabilities: (N, h, w), on any device.

    Returns:
        (N, h, w) uint8; 0 for a map without contrast.
    """
    maps = torch.as_tensor(probabilities).detach().float().cpu().numpy()
    return quantise(minmax_normalise(maps))
