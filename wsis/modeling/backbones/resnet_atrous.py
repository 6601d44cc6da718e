"""Detectron2's ResNet with finer maps in the last stages: stride 8, as DeepLab-V2 and BANA use it, and stride 16, as
class activation maps and IRNet do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
STRIDES_16 = (1, 2, 2, 1)

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
    stem = CeilStem(input_shape.channels, keys.STEM_OUT_CHANNELS, keys.NORM)
    stages = _stages(keys, STRIDES, DILATIONS)
    return ResNet(stem, stages, out_features=["res5"], freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)


@BACKBONE_REGISTRY.register()
def build_resnet_stride16_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """A bottleneck ResNet as ``MODEL.RESNETS`` says, with its ``OUT_FEATURES``, whose stage res5 does not stride; it is
    not dilated for that.

    Raises:
        ConfigError: a depth without bottlenecks.
    """
    keys = cfg.MODEL.RESNETS
    stem = BasicStem(input_shape.channels, keys.STEM_OUT_CHANNELS, keys.NORM)
    stages = _stages(keys, STRIDES_16, (1, 1, 1, 1))
    return ResNet(stem, stages, None, keys.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT)


def _stages(
    keys: CfgNode, strides: Sequence[int], dilations: Sequence[int]
) -> list[list[BottleneckBlock]]:
    if keys.DEPTH not in BLOCKS:
        raise ConfigError(
            f"MODEL.RESNETS.DEPTH: found {keys.DEPTH}, expected one of {', '.join(map(str, BLOCKS))}: this backbone is "
            "made of bottlenecks"
        )
    channels, out_channels = keys.STEM_OUT_CHANNELS, keys.RES2_OUT_CHANNELS
    inner = keys.NUM_GROUPS * keys.WIDTH_PER_GROUP
    stages = []
    for number, stride, dilation in zip(BLOCKS[keys.DEPTH], strides, dilations, strict=True):
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
    return stages


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


_TORCHVISION = re.compile(
    r"(?:layer(?P<stage>[1-4])\.(?P<block>\d+)\.)?(?P<kind>conv|bn|downsample\.)(?P<number>\d)\.(?P<part>\w+)"
)


def from_torchvision_resnet(name: str) -> str | None:
    """Detectron2's name of a weight of torchvision's: ``layer1.0.bn2.bias`` is ``res2.0.conv2.norm.bias``; None of what
    is not of a layer that Detectron2's backbone has.
    """
    found = _TORCHVISION.fullmatch(name)
    if found is None or found["part"] == "num_batches_tracked":
        return None
    block = f"res{int(found['stage']) + 1}.{found['block']}" if found["stage"] else "stem"
    shortcut = found["kind"] == "downsample."
    layer = "shortcut" if shortcut else f"conv{found['number']}"
    is_norm = found["kind"] == "bn" or (shortcut and found["number"] == "1")
    return f"{block}.{layer}{'.norm' if is_norm else ''}.{found['part']}"
