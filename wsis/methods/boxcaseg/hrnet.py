"""HRNet as the original release runs it, on timm's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsis.methods.boxcaseg.config import NetworkParams

_CHILDREN = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "layer1")
_STAGES = (2, 3, 4)


class HRNet(nn.Module):
    """High-resolution network (Sun et al.): four branches of stride 4 to 32, joined at stride 4.

    Names and shapes of the parameters are timm's, which are those of the original release and of its ImageNet weights.
    Unlike timm's own forward pass, coarse branches are resized bilinearly, to the size of the finer one, so that sides
    need not be multiples of 32.

    Attributes:
        channels: of the joined map.
        norm_momentum: of the batch norms.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        stage1_width: int = NetworkParams.stage1_width,
        blocks: int = NetworkParams.blocks,
        modules: Sequence[int] = NetworkParams.modules,
        norm_momentum: float = NetworkParams.norm_momentum,
    ) -> None:
        """
        Args:
            widths: channels of the four branches, finest first.
            stage1_width, blocks, modules, norm_momentum: see :class:`NetworkParams`.
        """
        super().__init__()
        net = _timm_hrnet(widths, stage1_width, blocks, modules)
        for name in _CHILDREN:
            self.add_module(name, getattr(net, name))
        for stage in _STAGES:
            self.add_module(f"transition{stage - 1}", getattr(net, f"transition{stage - 1}"))
            self.add_module(f"stage{stage}", getattr(net, f"stage{stage}"))
        self.channels = sum(widths)
        self.norm_momentum = norm_momentum
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, channels, ceil(H / 4), ceil(W / 4))."""
        x = images
        for name in _CHILDREN:
            x = getattr(self, name)(x)
        branches = [x]
        for stage in _STAGES:
            branches = _extend(branches, getattr(self, f"transition{stage - 1}"))
            for module in getattr(self, f"stage{stage}"):
                branches = _fuse(branches, module)
        size = branches[0].shape[-2:]
        return torch.cat([branches[0], *(_resize(each, size) for each in branches[1:])], dim=1)


def _timm_hrnet(
    widths: Sequence[int], stage1_width: int, blocks: int, modules: Sequence[int]
) -> nn.Module:
    """timm's network without a head, and without the nearest-neighbour resizing inside of its fusions."""
    from timm.models.hrnet import HighResolutionNet  # takes seconds

    def stage(kind: str, modules: int, widths: Sequence[int]) -> dict[str, object]:
        return {
            "num_modules": modules,
            "num_branches": len(widths),
            "block_type": kind,
            "num_blocks": (blocks,) * len(widths),
            "num_channels": tuple(widths),
            "fuse_method": "SUM",
        }

    layout: dict[str, object] = {"stem_width": 64, "stage1": stage("BOTTLENECK", 1, [stage1_width])}
    for number, count in zip(_STAGES, modules, strict=True):
        layout[f"stage{number}"] = stage("BASIC", count, widths[:number])
    net = HighResolutionNet(layout, head="")
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Upsample):
                delattr(parent, name)
    return net


def _extend(branches: list[Tensor], transition: nn.ModuleList) -> list[Tensor]:
    """The branches of the next stage; the new one comes from the coarsest."""
    last = len(branches) - 1
    return [layer(branches[min(i, last)]) for i, layer in enumerate(transition)]


def _fuse(branches: list[Tensor], module: Any) -> list[Tensor]:
    """One module: residual blocks on each branch, then every branch added to every other."""
    inner = [blocks(x) for blocks, x in zip(module.branches, branches, strict=True)]
    out = []
    for target, layers in zip(inner, module.fuse_layers, strict=True):
        size = target.shape[-2:]
        parts = [_resize(layer(x), size) for layer, x in zip(layers, inner, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        out.append(F.relu(total))
    return out


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
