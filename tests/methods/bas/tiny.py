"""BAS on two convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from wsis.methods.bas import BAS
from wsis.methods.bas.backbones import TappedBackbone
from wsis.methods.bas.config import BASParams
from wsis.methods.bas.network import BASNetwork


def make_network(
    classes: int = 3, channels: int = 16, norm: bool = True, hidden: int = 0
) -> BASNetwork:
    """Tapped at stride 4, with one convolution behind a pool as the tail."""
    norms = [nn.BatchNorm2d(channels)] if norm else []
    trunk = nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.ReLU(),
    )
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    tail = nn.Sequential(nn.MaxPool2d(2), conv, *norms, nn.ReLU())
    return BASNetwork(TappedBackbone(trunk, tail, stride=4), classes, hidden)


def make_model(network: BASNetwork | None = None, **params: Any) -> BAS:
    """In training mode; the keys are those of :class:`BASParams`."""
    torch.manual_seed(3)
    return BAS(
        network=network or make_network(),
        pixel_mean=[100.0] * 3,
        pixel_std=[60.0] * 3,
        params=BASParams(**{"head_channels": 0} | params),
        crop=24,
    )


def make_batch(number: int = 3, size: int = 32) -> list[dict[str, torch.Tensor]]:
    """Samples of training, each with one tag of three."""
    images = 255 * torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(2))
    return [{"image": i, "tags": torch.eye(3)[k % 3]} for k, i in enumerate(images)]


def make_inputs(*tags: int, size: int = 32) -> dict[str, Any]:
    """One image of evaluation, or of generation, which was half as large."""
    (sample,) = make_batch(1, size)
    given = {"image": sample["image"], "height": size // 2, "width": size // 2, "tags": list(tags)}
    return given | {"image_id": 1, "file_name": "a.png"}
