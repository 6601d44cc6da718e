"""What a box tells a foreground map beyond its class."""

from __future__ import annotations

import torch
from torch import Tensor

from wsis.layers.box_losses import tightness_loss

EPSILON = 1e-6
"""Least distance of a probability from 0 and 1 where its logit is taken."""


def box_cells(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The cells of a grid whose centre lies in the box.

    Args:
        boxes: (B, 4) XYXY in units of the crop's sides.
        size: height and width of the grid.

    Returns:
        (B, 1, H, W) float, 1 inside.
    """
    y, x = (
        (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side for side in size
    )
    x0, y0, x1, y1 = boxes[:, :, None, None].unbind(1)
    inside = (x >= x0) & (x < x1) & (y[:, None] >= y0) & (y[:, None] < y1)
    return inside[:, None].to(boxes.dtype)


def outside_area(foreground: Tensor, inside: Tensor) -> Tensor:
    """Mean of the map over the cells outside of the box; 0 where there are none.

    Args:
        foreground: (B, 1, H, W) in (0, 1).
        inside: (B, 1, H, W), see :func:`box_cells`.

    Returns:
        Mean over the batch.
    """
    outside = 1 - inside
    total = (foreground * outside).sum(dim=(1, 2, 3))
    return (total / outside.sum(dim=(1, 2, 3)).clamp(min=1)).mean()


def map_tightness(foreground: Tensor, inside: Tensor) -> Tensor:
    """:func:`wsis.layers.box_losses.tightness_loss` of a map in (0, 1): each row and column that meets the box has a
    foreground cell, and the others have none. Mean over the batch.
    """
    return tightness_loss(foreground.logit(EPSILON), inside).mean()
