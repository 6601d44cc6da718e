"""ResNet-38, the wide pre-activation network "A1" of Wu et al. (arXiv 1611.10080), with output stride 8, as SEAM and
ICAM use it; names of its modules are theirs, so that their weights load, and so do the original ones of MXNet.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn import functional

from wsis.config.params import key, node, read
from wsis.config.rules import above_at_most, each, one_of, share
from wsis.errors import ConfigError
from wsis.layers.norms import NORMS, batch_norm
from wsis.modeling.weight_names import own_names, register_weight_names

logger = logging.getLogger(__name__)

STEM = 64
BASIC = (
    (2, 3, 128, 128, 2, 1, 1),
    (3, 3, 256, 256, 2, 1, 1),
    (4, 6, 512, 512, 2, 1, 1),
    (5, 3, 512, 1024, 1, 1, 2),
)
"""Stages of basic blocks: number, blocks, inner and outer channels, stride and first dilation of the first block, the
others' dilation."""
BOTTLENECKS = ((6, 2048), (7, 4096))
"""Stages of one bottleneck, dilated by 4: number, channels."""
TAPS = {"conv4": 3, "conv5": 4, "conv6": -1}
"""Map to the number in :data:`BASIC` of the stage before which, rectified, it stands; -1 = after everything."""

_MXNET = re.compile(
    r"(?:arg|aux):(?:res|bn)(\d)(?:a|b(\d+))_branch(\w+?)_(weight|gamma|beta|moving_mean|moving_var)"
)
_PARTS = {
    "weight": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


@node("MODEL.RESNET38")
@dataclass(frozen=True)
class ResNet38Params:
    """Backbone "build_resnet38_backbone"; MODEL.BACKBONE.FREEZE_AT 2 freezes conv1a and b2, 3 b3 too, and so on.

    Attributes:
        width: Channels in units of the published ones, in (0, 1].
        norms: What batch norms do in training: "frozen" (statistics, scales and shifts stay; ICAM's maps and
            affinities), "statistics" (each batch's statistics, scales and shifts stay; ICAM's segmentor) or "trained".
        norm_momentum: Share of a batch in the running statistics, unless norms are "frozen".
        dropout: Shares of the channels that the two bottlenecks b6 and b7 drop in training.
    """

    width: float = key(1.0, above_at_most(0, 1))
    norms: str = key("frozen", one_of(NORMS))
    norm_momentum: float = key(0.1, above_at_most(0, 1))
    dropout: tuple[float, float] = key((0.3, 0.5), each("two numbers in [0, 1)", share, 2))

    def norm(self, channels: int) -> nn.Module:
        """A batch norm of this kind."""
        return batch_norm(self.norms, channels, self.norm_momentum)

    def channels(self, published: int) -> int:
        """Of a layer that has so many in the published network."""
        return max(4, round(published * self.width))


def _conv(channels: int, out: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(channels, out, kernel, stride, padding, dilation, bias=False)
    c2_msra_fill(conv)
    return conv


class Block(nn.Module):
    """A residual block whose norm and rectifier come first.

    Its shortcut, where one is needed, is a convolution of the rectified input. The branches of a bottleneck drop whole
    channels.

    Args:
        convs: of the branch, one after the other: channels, out channels, kernel, stride, dilation.
        shortcut: whether the shortcut is a convolution.
        dropout: share of the channels that are dropped before all but the first convolution.
        params: which norms.
    """

    def __init__(
        self,
        convs: list[tuple[int, int, int, int, int]],
        shortcut: bool,
        dropout: float,
        params: ResNet38Params,
    ) -> None:
        super().__init__()
        self.names = ("2a", "2b1", "2b2")[: len(convs)]
        for name, conv in zip(self.names, convs, strict=True):
            self.add_module(f"bn_branch{name}", params.norm(conv[0]))
            self.add_module(f"conv_branch{name}", _conv(*conv))
        self.conv_branch1 = _conv(convs[0][0], convs[-1][1], 1, convs[0][3]) if shortcut else None
        self.drop = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) to the block's output and its rectified input."""
        activated = self._rectified(x, "2a")
        branch = self.get_submodule("conv_branch2a")(activated)
        for name in self.names[1:]:
            branch = self.drop(self._rectified(branch, name))
            branch = self.get_submodule(f"conv_branch{name}")(branch)
        return branch + (
            x if self.conv_branch1 is None else self.conv_branch1(activated)
        ), activated

    def _rectified(self, x: Tensor, name: str) -> Tensor:
        return functional.relu(self.get_submodule(f"bn_branch{name}")(x))


def basic_block(
    channels: tuple[int, int, int], stride: int, dilations: tuple[int, int], params: ResNet38Params
) -> Block:
    """Two 3x3 convolutions; ``channels`` of the input, between them and of the output."""
    start, inner, out = channels
    convs = [(start, inner, 3, stride, dilations[0]), (inner, out, 3, 1, dilations[1])]
    return Block(convs, start != out or stride > 1, 0.0, params)


def bottleneck(
    start: int, out: int, stride: int, dilation: int, dropout: float, params: ResNet38Params
) -> Block:
    """Convolutions 1x1, 3x3 (dilated) and 1x1, of a quarter, a half and all of the output's channels."""
    few, some = out // 4, out // 2
    convs = [
        (start, few, 1, stride, 1),
        (few, some, 3, 1, dilation),
        (some, out, 1, 1, 1),
    ]
    return Block(convs, True, dropout, params)


class ResNet38(Backbone):
    """The network without its classifier.

    Its maps have stride 8, n pixels become floor((n - 1) / 2) + 1 three times: "conv4" (512 channels, the rectified
    input of b5), "conv5" (1024, that of b6) and "conv6" (4096, the rectified output).

    Args:
        params: its form.
        freeze_at: 1 = conv1a has no gradient, 2 = b2 neither, up to 7.

    Raises:
        ConfigError: there is no such stage.
    """

    def __init__(self, params: ResNet38Params, freeze_at: int = 0) -> None:
        super().__init__()
        if not 0 <= freeze_at <= BOTTLENECKS[-1][0]:
            raise ConfigError(
                f"MODEL.BACKBONE.FREEZE_AT: found {freeze_at}, expected 0 to {BOTTLENECKS[-1][0]}"
            )
        size = params.channels
        last = size(STEM)
        self.conv1a = _conv(3, last, 3)
        self._stages: list[list[str]] = []
        for number, blocks, inner, out, stride, first, other in BASIC:
            names = [f"b{number}"] + [f"b{number}_{i}" for i in range(1, blocks)]
            for name in names:
                of_first = name == names[0]
                block = basic_block(
                    (last, size(inner), size(out)),
                    stride if of_first else 1,
                    (first if of_first else other, other),
                    params,
                )
                self.add_module(name, block)
                last = size(out)
            self._stages.append(names)
        for (number, out), dropout in zip(BOTTLENECKS, params.dropout, strict=True):
            self.add_module(f"b{number}", bottleneck(last, size(out), 1, 4, dropout, params))
            self._stages.append([f"b{number}"])
            last = size(out)
        self.bn7 = params.norm(last)
        self._channels = {"conv4": size(512), "conv5": size(1024), "conv6": last}
        for names in [["conv1a"], *self._stages][:freeze_at]:
            for name in names:
                self.get_submodule(name).requires_grad_(False)

    def placed(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Weights elsewhere have these very names."""
        return own_names(self, weights)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) RGB, normalised as for torchvision's networks, to the three maps."""
        x, maps = self.conv1a(x), {}
        inputs = {self._stages[number][0]: name for name, number in TAPS.items() if number >= 0}
        for name in (name for names in self._stages for name in names):
            x, activated = self.get_submodule(name)(x)
            if name in inputs:
                maps[inputs[name]] = activated
        return {**maps, "conv6": functional.relu(self.bn7(x))}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each map."""
        return {name: ShapeSpec(channels=n, stride=8) for name, n in self._channels.items()}


@BACKBONE_REGISTRY.register()
def build_resnet38_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet38:
    """The network of ``MODEL.RESNET38`` and ``MODEL.BACKBONE.FREEZE_AT``.

    Raises:
        ConfigError: a value out of its range.
    """
    params = read(cfg, ResNet38Params)
    if params.norms == "frozen" and not cfg.MODEL.WEIGHTS:
        logger.warning(
            "MODEL.RESNET38.NORMS: 'frozen' without MODEL.WEIGHTS; training from scratch needs 'trained'"
        )
    return ResNet38(params, cfg.MODEL.BACKBONE.FREEZE_AT)


def is_mxnet_resnet38(weights: Mapping[str, Any]) -> bool:
    """Whether these are weights under MXNet's names, as in ``ilsvrc-cls_rna-a1_cls1000_ep-0001.params``."""
    return "arg:conv1a_weight" in weights and "arg:bn7_gamma" in weights


@register_weight_names(is_mxnet_resnet38)
def from_mxnet(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights under our names: ``arg:res2b1_branch2a_weight`` becomes ``b2_1.conv_branch2a.weight``. The classifier of
    ImageNet's classes is left out.
    """
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        if found := _MXNET.fullmatch(name):
            stage, block, branch, part = found.groups()
            place = f"b{stage}_{block}" if block else f"b{stage}"
            kind = "conv" if part == "weight" else "bn"
            ours = f"{place}.{kind}_branch{branch}.{_PARTS[part]}"
        elif found := re.fullmatch(r"(?:arg|aux):(conv1a|bn7)_(\w+)", name):
            ours = f"{found[1]}.{_PARTS[found[2]]}"
        else:
            continue
        out[ours] = torch.as_tensor(value)
    return out
