"""Batch norms by what they do in training."""

from __future__ import annotations

from detectron2.layers import FrozenBatchNorm2d
from torch import nn

NORMS = ("frozen", "statistics", "trained")
"""Statistics, scales and shifts stay; each batch has its own statistics, scales and shifts stay; all is learnt."""


def batch_norm(kind: str, channels: int, momentum: float = 0.1) -> nn.Module:
    """A batch norm.

    Args:
        kind: one of :data:`NORMS`.
        channels: of its input.
        momentum: share of a batch in the running statistics.
    """
    if kind == "frozen":
        return FrozenBatchNorm2d(channels)
    return nn.BatchNorm2d(channels, momentum=momentum).requires_grad_(kind == "trained")
