"""Losses of label maps."""

from __future__ import annotations

import torch
from torch.nn import functional

from wsis.structures.pseudo_labels import IGNORE


def mean_cross_entropy(
    scores: torch.Tensor, label: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Mean CE(T scores, label) over all pixels of a class; 0, with a graph, where there is none.

    Args:
        scores: (N, C, H, W).
        label: (N, H, W) integers, 255 = left out.
        temperature: T.
    """
    total = functional.cross_entropy(
        temperature * scores, label.long(), ignore_index=IGNORE, reduction="sum"
    )
    return total / (label != IGNORE).sum().clamp(min=1)
