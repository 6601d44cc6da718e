"""IRNet's two branches on the maps of a frozen network: edges between objects, and where the middle of an object is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional

from wsis.errors import ConfigError

FINE, COARSE = 4, 8
"""Strides of the result, and of the maps that the displacement branch joins first."""
EDGE_CHANNELS = 32
FINE_CHANNELS = (64, 128)
"""Of the displacement branch's fine maps; the last of these that are needed."""
CHANNELS = 256


def reduced(in_channels: int, channels: int, groups: int) -> nn.Sequential:
    """A 1x1 convolution and a group norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, bias=False), nn.GroupNorm(groups, channels)
    )


def enlarged(maps: Tensor, factor: float) -> Tensor:
    """Bilinear, corners not aligned."""
    if factor == 1:
        return maps
    return functional.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


def joined(maps: list[Tensor]) -> Tensor:
    """Maps of one stride, side by side; where sides were rounded up, the larger ones are cut."""
    height, width = (min(sides) for sides in zip(*(each.shape[-2:] for each in maps), strict=True))
    return torch.cat([each[..., :height, :width] for each in maps], dim=1)


class MeanShift(nn.Module):
    """What displacements are on average, whatever is in the image: followed in training, subtracted after it.

    Args:
        channels: of the maps.
        momentum: share of each batch.
    """

    running_mean: Tensor

    def __init__(self, channels: int, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w), in training as it is."""
        if self.training:
            self.running_mean.lerp_(maps.detach().float().mean(dim=(0, 2, 3)), self.momentum)
            return maps
        return maps - self.running_mean[:, None, None]


class IRNetHead(nn.Module):
    """Edges and displacements at stride 4.

    Args:
        shapes: of the network's maps, the finest first, of stride 4 or more.

    Raises:
        ConfigError: the maps cannot be joined.
    """

    def __init__(self, shapes: Mapping[str, ShapeSpec]) -> None:
        super().__init__()
        self.strides = {name: shape.stride or 0 for name, shape in shapes.items()}
        strides = list(self.strides.values())
        fine = strides.count(FINE)
        coarse = strides[fine:]
        if (
            not 0 < fine <= len(FINE_CHANNELS)
            or strides != [FINE] * fine + sorted(coarse)
            or not coarse
        ):
            raise ConfigError(
                f"backbone: its maps have the strides {strides}, expected rising ones: one or two of {FINE} and one or "
                f"more of at least {COARSE}"
            )
        channels = [shape.channels or 0 for shape in shapes.values()]
        widths = [*FINE_CHANNELS[-fine:], *[CHANNELS] * len(coarse)]
        self.edge_levels = nn.ModuleList(reduced(each, EDGE_CHANNELS, 4) for each in channels)
        self.edge = nn.Conv2d(EDGE_CHANNELS * len(strides), 1, 1)
        self.displacement_levels = nn.ModuleList(
            reduced(each, width, 8 if width == 64 else 16)
            for each, width in zip(channels, widths, strict=True)
        )
        self.coarse = reduced(sum(widths[fine:]), CHANNELS, 16)
        self.displacement = nn.Sequential(
            *reduced(sum(widths[:fine]) + CHANNELS, CHANNELS, 16),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, 2, 1, bias=False),
        )
        self.mean_shift = MeanShift(2)

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The maps by name to edge logits (N, 1, h, w) and displacements (N, 2, h, w), dy first."""
        edges, fine, coarse = [], [], []
        levels = zip(self.strides.items(), self.edge_levels, self.displacement_levels, strict=True)
        for (name, stride), edge, displacement in levels:
            maps = features[name]
            edges.append(enlarged(edge(maps), stride / FINE).relu())
            own = displacement(maps)
            if stride == FINE:
                fine.append(own.relu())
            else:
                coarse.append(enlarged(own, stride / COARSE).relu())
        fine.append(enlarged(self.coarse(joined(coarse)), COARSE / FINE).relu())
        return self.edge(joined(edges)), self.mean_shift(self.displacement(joined(fine)))
