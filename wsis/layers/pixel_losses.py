"""Losses of pixels with a label: cross-entropy with something left out, of label maps and of rows; Dice."""

from __future__ import annotations

import torch
from torch.nn import functional

from wsis.structures.pseudo_labels import IGNORE


def mean_cross_entropy(
    scores: torch.Tensor, label: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Mean CE(T scores, label) over all that has a class; 0, with a graph, where nothing has.

    Args:
        scores: (N, C, ...), of pixels or of rows.
        label: (N, ...) integers, 255 = left out.
        temperature: T.
    """
    total = functional.cross_entropy(
        temperature * scores, label.long(), ignore_index=IGNORE, reduction="sum"
    )
    return total / (label != IGNORE).sum().clamp(min=1)


def dice_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float = 1.0,
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """1 - (2 sum s y + e) / (sum s^2 + sum y^2 + e), s = sigmoid of the logits (Milletari et al.: *V-Net*, 3DV 2016).

    Args:
        logits: (N, ...), of the pixels of one mask each.
        labels: same shape, in [0, 1].
        smoothing: e.
        known: same shape, bool, the pixels that are summed over; all where not given.

    Returns:
        (N,), in [0, 1).
    """
    s, y = torch.sigmoid(logits.float()).flatten(1), labels.float().flatten(1)
    if known is not None:
        s, y = s * known.flatten(1), y * known.flatten(1)
    return 1 - (2 * (s * y).sum(1) + smoothing) / (
        s.square().sum(1) + y.square().sum(1) + smoothing
    )
