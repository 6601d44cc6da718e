"""Cross-entropy with something left out, of label maps and of rows."""

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
