"""VGG-16 with output stride 8 (DeepLab-V1's), under Caffe's names, and weights that fit into it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional

from wsis.config.params import key, node, read
from wsis.config.rules import above_at_most, at_least, at_least_below

GROUPS = (2, 2, 3, 3, 3)
"""Convolutions of conv1 to conv5."""
CHANNELS = (64, 128, 256, 512, 512)
FC_CHANNELS = 1024
POOL_STRIDES = (2, 2, 2, 1, 1)
RGB_STD = (0.229, 0.224, 0.225)
"""By which torchvision's VGG-16 divides colours of 0 to 1."""

TORCHVISION_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Their numbers among torchvision's ``features``."""
_FC6_SIZE = 7
"""Rows and columns that the first fully connected layer of VGG-16 sees."""


@node("MODEL.VGG")
@dataclass(frozen=True)
class VGGParams:
    """Form of an :class:`AtrousVGG16`.

    Attributes:
        fc6_dilation: Dilation of fc6 in backbone "build_atrous_vgg16_backbone"; 1 for BANA's classifier, 12 for
            DeepLab's LargeFOV.
        width: Channels in units of VGG-16's, in (0, 1].
        norm: Norm after each convolution, which then has no bias, as in Detectron2; "" = none, as published. Needed for
            training from scratch.
        dropout: Share of the channels that fc6 and fc7 drop in training.
    """

    fc6_dilation: int = key(1, at_least(1))
    width: float = key(1.0, above_at_most(0, 1))
    norm: str = key("")
    dropout: float = key(0.5, at_least_below(0, 1))


def conv_names() -> list[str]:
    """conv1_1, conv1_2, ..., conv5_3."""
    return [f"conv{group + 1}_{i + 1}" for group, n in enumerate(GROUPS) for i in range(n)]


class AtrousVGG16(Backbone):
    """Thirteen 3x3 convolutions, of which conv5 is dilated by 2; then fc6 (3x3) and fc7 (1x1) as convolutions.

    Max pools are 3x3 with padding 1; the first three halve the map (n to floor((n - 1) / 2) + 1), the others keep
    the size. An average pool 3x3, zeros counted, stands before fc6. The output, "fc7", is not negative.

    Args:
        keys: of :class:`VGGParams`.
    """

    def __init__(self, **keys: Any) -> None:
        super().__init__()
        params = VGGParams(**keys)
        width, norm = params.width, params.norm
        channels = 3
        for group, number in enumerate(GROUPS):
            dilation = 2 if group == 4 else 1
            for i in range(number):
                out = _scaled(CHANNELS[group], width)
                conv = _conv(channels, out, kernel=3, dilation=dilation, norm=norm)
                self.add_module(f"conv{group + 1}_{i + 1}", conv)
                channels = out
        out = _scaled(FC_CHANNELS, width)
        self.fc6 = _conv(channels, out, kernel=3, dilation=params.fc6_dilation, norm=norm)
        self.fc7 = _conv(out, out, kernel=1, dilation=1, norm=norm)
        self.drop = nn.Dropout2d(params.dropout)
        self.out_channels = out

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W), Caffe's BGR without mean, to {"fc7": (N, channels, h, w)}."""
        for group, number in enumerate(GROUPS):
            for i in range(number):
                x = self.get_submodule(f"conv{group + 1}_{i + 1}")(x)
            x = functional.max_pool2d(x, 3, stride=POOL_STRIDES[group], padding=1)
        x = functional.avg_pool2d(x, 3, stride=1, padding=1)
        x = self.drop(self.fc6(x))
        return {"fc7": self.drop(self.fc7(x))}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """See Detectron2."""
        return {"fc7": ShapeSpec(channels=self.out_channels, stride=8)}


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _conv(channels: int, out: int, *, kernel: int, dilation: int, norm: str) -> Conv2d:
    conv = Conv2d(
        channels,
        out,
        kernel_size=kernel,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        bias=not norm,
        norm=get_norm(norm, out),
        activation=functional.relu_,
    )
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


@BACKBONE_REGISTRY.register()
def build_atrous_vgg16_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> AtrousVGG16:
    """:class:`AtrousVGG16` as ``MODEL.VGG`` says.

    Raises:
        ConfigError: a value out of its range.
    """
    return AtrousVGG16(**vars(read(cfg, VGGParams)))


def is_torchvision_vgg16(weights: Mapping[str, object]) -> bool:
    """Whether these are torchvision's weights of VGG-16 without batch norm, whole."""
    layers = [
        *(f"features.{number}" for number in TORCHVISION_CONVS),
        "classifier.0",
        "classifier.3",
    ]
    return {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")} <= set(weights)


def from_torchvision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's VGG-16 as an :class:`AtrousVGG16` of full width.

    The first layer takes BGR colours of 0 to 255 without the mean (103.53, 116.28, 123.675). fc6 sees rows and columns
    0, 3 and 6 of the 7x7 that it was trained on and keeps every fourth unit; fc7 keeps every fourth of those. Factors
    7/3 and 2 keep the variance of the activations.

    Args:
        weights: torchvision's names to tensors.

    Returns:
        Names and shapes of :class:`AtrousVGG16`.
    """
    out: dict[str, Tensor] = {}
    for name, number in zip(conv_names(), TORCHVISION_CONVS, strict=True):
        for part in ("weight", "bias"):
            out[f"{name}.{part}"] = torch.as_tensor(weights[f"features.{number}.{part}"])
    scale = 1 / (255 * out["conv1_1.weight"].new_tensor(RGB_STD))
    out["conv1_1.weight"] = (out["conv1_1.weight"] * scale[:, None, None]).flip(1)
    fc6 = torch.as_tensor(weights["classifier.0.weight"])
    seen = fc6.view(len(fc6), -1, _FC6_SIZE, _FC6_SIZE)[::4, :, ::3, ::3]
    out["fc6.weight"] = (seen * (_FC6_SIZE / 3)).contiguous()
    out["fc6.bias"] = torch.as_tensor(weights["classifier.0.bias"])[::4].clone()
    fc7 = torch.as_tensor(weights["classifier.3.weight"])[::4, ::4, None, None]
    out["fc7.weight"] = (fc7 * math.sqrt(4)).contiguous()
    out["fc7.bias"] = torch.as_tensor(weights["classifier.3.bias"])[::4].clone()
    return out
