"""Weights of BANA's original release, of Caffe and of torchvision, under the names of our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from wsis.errors import ConfigError
from wsis.modeling.backbones.resnet_atrous import from_caffe_resnet, is_caffe_resnet
from wsis.modeling.backbones.vgg16 import conv_names, from_torchvision, is_torchvision_vgg16
from wsis.modeling.weight_names import register_weight_names

BACKBONE = "backbone."
_VGG = re.compile(r"(?P<place>.*?)(?P<name>(conv[1-5]_[1-3]|fc[67])\.(weight|bias))")
_CLASSIFIER = re.compile(r"(.*\.)?classifier\.weight")
_BACKBONE = re.compile(r"(^|\.)(layer[1-5]|conv[1-5]_[1-3]|fc[67])\.")


def is_foreign(weights: Mapping[str, object]) -> bool:
    """Whether these are weights of VGG-16 or an atrous ResNet under other names than ours."""
    if is_torchvision_vgg16(weights) or is_caffe_resnet(weights):
        return True
    found = [match for name in weights if (match := _VGG.fullmatch(name))]
    # detectors have layers called fc6, too
    places = {match["place"] for match in found if match["name"].startswith("conv")}
    return bool(places) and places != {BACKBONE}


@register_weight_names(is_foreign)
def from_foreign(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of backbone and, where there are any, head and classifier; what else the file holds is dropped.

    The head, DeepLab-V2's dilated branches, is what 3x3 convolutions there are outside of the backbone, in the file's
    order, which is that of the rates.

    Args:
        weights: of Caffe's VGG-16 (``conv1_1.weight``), torchvision's (``features.0.weight``), the original release
            (``conv1_1.weight`` or ``layer1.conv1.conv.weight`` and ``classifier.weight``, behind any prefix).

    Returns:
        Names of :class:`wsis.methods.bana.BANASegmentor`, which are those of ``BANAClassifier`` too.

    Raises:
        ConfigError: a layer of VGG-16 is missing.
    """
    if is_torchvision_vgg16(weights):
        return {BACKBONE + name: value for name, value in from_torchvision(weights).items()}
    if is_caffe_resnet(weights):
        backbone = from_caffe_resnet(weights)
    else:
        named = ((_VGG.fullmatch(name), value) for name, value in weights.items())
        backbone = {found["name"]: torch.as_tensor(value) for found, value in named if found}
        for layer in (*conv_names(), "fc6", "fc7"):
            if f"{layer}.weight" not in backbone or f"{layer}.bias" not in backbone:
                raise ConfigError(f"weights of VGG-16: {layer} is missing")
    out = {BACKBONE + name: value for name, value in backbone.items()}
    branches = 0
    for name, value in weights.items():
        if _CLASSIFIER.fullmatch(name):
            out["classifier.weight"] = torch.as_tensor(value)
        elif not _BACKBONE.search(name) and torch.as_tensor(value).shape[2:] == (3, 3):
            out[f"head.branches.{branches}.weight"] = torch.as_tensor(value)
            branches += 1
    return out
