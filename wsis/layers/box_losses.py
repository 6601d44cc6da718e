"""Losses that need a box only: tightness of the box, and smoothness of the mask (BBTP, BoxCaseg)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def line_maxima(maps: Tensor) -> Tensor:
    """The largest value of every column, then of every row.

    Args:
        maps: (N, 1, H, W).

    Returns:
        (N, W + H). A gradient goes to one pixel of each line, the first of the largest.
    """
    columns, rows = (maps[:, 0].max(dim=dim).values for dim in (1, 2))
    return torch.cat([columns, rows], dim=1)


def tightness_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Multiple-instance loss of a tight box: each row and each column that meets the box has a foreground pixel, and
    the others have none.

    L_n = 1 / (W + H) sum over the lines l of BCE(max of the logits on l, max of the labels on l).

    Args:
        logits: (N, 1, H, W).
        labels: (N, 1, H, W) in [0, 1], 1 inside of the box; a mask may stand for it.

    Returns:
        (N,), one loss per sample.
    """
    bags = line_maxima(logits.float())
    targets = line_maxima(labels.float())
    return F.binary_cross_entropy_with_logits(bags, targets, reduction="none").mean(dim=1)


def smoothness_loss(logits: Tensor) -> Tensor:
    """Mean squared difference of neighbouring probabilities, in all eight directions; around the map they are 0.

    L_n = 1 / (8 H W) sum over pixels p and their eight neighbours q of (s_p - s_q)^2, s = sigmoid of the logits. Pixels
    on the border are therefore pulled to 0.

    Args:
        logits: (N, 1, H, W).

    Returns:
        (N,), one loss per sample.
    """
    s = torch.sigmoid(logits[:, 0].float())
    pairs = (
        (s[:, :, 1:], s[:, :, :-1]),
        (s[:, 1:], s[:, :-1]),
        (s[:, 1:, 1:], s[:, :-1, :-1]),
        (s[:, 1:, :-1], s[:, :-1, 1:]),
    )
    inside = torch.stack([(a - b).square().sum(dim=(1, 2)) for a, b in pairs]).sum(dim=0)
    border = (s.square() * _neighbours_outside(s)).sum(dim=(1, 2))
    return (2 * inside + border) / (8 * s[0].numel())


def _neighbours_outside(maps: Tensor) -> Tensor:
    """(H, W) number of each pixel's neighbours that lie outside of the (N, H, W) maps."""
    reach = []
    for size in maps.shape[1:]:
        lines = maps.new_full((size,), 3.0)
        lines[0] -= 1
        lines[-1] -= 1
        reach.append(lines)
    return 9 - reach[0][:, None] * reach[1]
