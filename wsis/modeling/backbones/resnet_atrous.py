"""Detectron2's ResNet with output stride 8 in the last stage, as DeepLab-V2 and BANA use it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from torch import Tensor
from torch.nn import functional

from wsis.errors import ConfigError

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)

_NAME = re.compile(
    r"layer(?:1\.(?P<stem>conv1)|(?P<stage>[2-5])\.block(?P<block>\d+)\.(?P<conv>\w+))\."
    r"(?P<kind>conv|bn)\.(?P<part>\w+)"
)
_CONVS = {"reduce": "conv1", "conv3x3": "conv2", "increase": "conv3", "shortcut": "shortcut"}


class CeilStem(BasicStem):
    """Detectron2's stem; the max pool rounds sizes up, as Caffe's does."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, channels, h, w)."""
        x = functional.relu_(self.conv1(x))
        return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1, ceil_mode=True)


@BACKBONE_REGISTRY.register()
def build_atrous_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """A bottleneck ResNet as ``MODEL.RESNETS`` says, whose stages res4 and res5 are dilated by 2 and 4 instead of
    striding. Names of modules are Detectron2's, so that its ImageNet weights load.

    Raises:
        ConfigError: a depth without bottlenecks.
    """
    keys = cfg.MODEL.RESNETS
    if keys.DEPTH not in BLOCKS:
        raise ConfigError(
            f"MODEL.RESNETS.DEPTH: found {keys.DEPTH}, expected one of {', '.join(map(str, BLOCKS))}: only bottlenecks "
            "can be dilated"
        )
    stem = CeilStem(input_shape.channels, keys.STEM_OUT_CHANNELS, keys.NORM)
    channels, out_channels = keys.STEM_OUT_CHANNELS, keys.RES2_OUT_CHANNELS
    inner = keys.NUM_GROUPS * keys.WIDTH_PER_GROUP
    stages = []
    for number, stride, dilation in zip(BLOCKS[keys.DEPTH], STRIDES, DILATIONS, strict=True):
        stage = ResNet.make_stage(
            BottleneckBlock,
            number,
            in_channels=channels,
            out_channels=out_channels,
            bottleneck_channels=inner,
            stride_per_block=[stride] + [1] * (number - 1),
            dilation=dilation,
            num_groups=keys.NUM_GROUPS,
            norm=keys.NORM,
            stride_in_1x1=keys.STRIDE_IN_1X1,
        )
        stages.append(stage)
        channels, out_channels, inner = out_channels, 2 * out_channels, 2 * inner
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    return ResNet(stem, stages, out_features=["res5"], freeze_at=freeze_at)


def is_caffe_resnet(weights: Mapping[str, object]) -> bool:
    """Whether these are weights under the names of BANA's original release or of deeplab-pytorch."""
    return any(name.endswith("layer1.conv1.conv.weight") for name in weights)


def from_caffe_resnet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under Detectron2's names: ``layer2.block1.conv3x3.bn.bias`` becomes ``res2.0.conv2.norm.bias``.

    Args:
        weights: name to tensor; what stands before ``layer`` in a name is dropped, and so is what is not of a layer.

    Returns:
        Names of the backbone that :func:`build_atrous_resnet_backbone` builds.
    """
    out = {}
    for name, value in weights.items():
        if found := _NAME.search(name):
            if found["stem"]:
                place = "stem.conv1"
            else:
                place = f"res{found['stage']}.{int(found['block']) - 1}.{_CONVS[found['conv']]}"
            norm = ".norm" if found["kind"] == "bn" else ""
            out[f"{place}{norm}.{found['part']}"] = torch.as_tensor(value)
    return out
