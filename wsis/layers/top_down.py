"""A decoder that joins the feature maps of a backbone at the finest of them."""

from __future__ import annotations

from collections.abc import Mapping

from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F


class TopDown(nn.Module):
    """The top-down path of a feature pyramid (Lin et al., CVPR 2017) down to its finest level, and only that level.

    Each map is reduced to C channels and added to the sum of the coarser ones, which is enlarged bilinearly, so that
    sides need not be multiples of anything; a 3x3 convolution smooths every sum.

    Args:
        shapes: of the maps by name, in any order; those of the same stride come one after another.
        channels: C.
    """

    def __init__(self, shapes: Mapping[str, ShapeSpec], channels: int) -> None:
        super().__init__()
        self.names = sorted(shapes, key=lambda name: shapes[name].stride or 0, reverse=True)
        self.lateral = nn.ModuleList(
            _block(shapes[name].channels, channels, 1) for name in self.names
        )
        self.smooth = nn.ModuleList(_block(channels, channels, 3) for _ in self.names[1:])

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """(N, C_i, h_i, w_i) of each name to (N, C, h, w) of the finest."""
        x = self.lateral[0](maps[self.names[0]])
        for name, lateral, smooth in zip(
            self.names[1:], self.lateral[1:], self.smooth, strict=True
        ):
            finer = lateral(maps[name])
            x = F.interpolate(x, size=finer.shape[-2:], mode="bilinear", align_corners=False)
            x = smooth(x + finer)
        return x


def _block(inner: int, channels: int, side: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, channels, side, padding=side // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
