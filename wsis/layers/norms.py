"""Batch norms by what they do in training."""

from __future__ import annotations

import torch
from detectron2.layers import FrozenBatchNorm2d
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

NORMS = ("frozen", "statistics", "trained")
"""Statistics, scales and shifts stay; each batch has its own statistics, scales and shifts stay; all is learnt."""


class FrozenBatchNormAct2d(FrozenBatchNorm2d):
    """Detectron2's frozen norm in one pass over its input, where gradients are wanted too, and what timm's norms have
    behind it. Names of weights are those of both.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps)
        self.drop: nn.Module = nn.Identity()
        self.act: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), in its own memory format."""
        if x.requires_grad:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            shift = self.bias - self.running_mean * scale
            scale, shift = (each.to(x.dtype).reshape(1, -1, 1, 1) for each in (scale, shift))
            x = torch.addcmul(shift, x, scale)
        else:
            x = super().forward(x)
        return self.act(self.drop(x))


def frozen_norms(module: nn.Module) -> nn.Module:
    """The module with frozen batch norms. Detectron2's own conversion would drop the activation inside timm's
    ``BatchNormAct2d`` without a word.
    """
    inner = {
        name: (norm.drop, norm.act)
        for name, norm in module.named_modules()
        if isinstance(norm, BatchNormAct2d)
    }
    module = FrozenBatchNormAct2d.convert_frozen_batchnorm(module)
    for name, (drop, act) in inner.items():
        norm = module.get_submodule(name)
        norm.drop, norm.act = drop, act
    return module


def freeze(module: nn.Module) -> nn.Module:
    """The module without gradients and with frozen batch norms."""
    module.requires_grad_(False)
    return frozen_norms(module)


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
