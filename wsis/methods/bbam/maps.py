"""An attribution mask brought to the size of the original image."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional


def stretched(mask: np.ndarray) -> np.ndarray | None:
    """A mask with its minimum taken off and its maximum at 1.

    Args:
        mask: (h, w) float or uint8, at least 0.

    Returns:
        (h, w) float32 in [0, 1], or None for a mask without contrast (nothing to go by).
    """
    values = mask.astype(np.float32)
    values -= values.min()
    highest = values.max()
    return values / highest if highest > 0 else None


def map_at_image(mask: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """:func:`stretched` at image size, the outermost cells on the outermost pixels, as the optimisation has them.

    Args:
        mask: (h, w) float or uint8, at least 0, of the whole image.
        height, width: size of the original image in pixels.
    """
    values = stretched(mask)
    if values is None:
        return None
    grid, size = torch.from_numpy(values)[None, None], (height, width)
    return functional.interpolate(grid, size, mode="bilinear", align_corners=True)[0, 0].numpy()
