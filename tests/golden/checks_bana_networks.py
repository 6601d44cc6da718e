"""Recorded features of BANA's networks, with weights made by a formula."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn

from tests.golden.compare import Comparison, close, each
from tests.golden.frame import Arrays, cases, check
from wsis.config import get_cfg
from wsis.layers.deeplab import AtrousSum
from wsis.modeling.backbones.resnet_atrous import DILATIONS
from wsis.modeling.backbones.vgg16 import AtrousVGG16, conv_names

RATES = (6, 12, 18, 24)


def formula(shape: torch.Size, number: int, scale: float) -> torch.Tensor:
    """Values of a hash of their place and of the layer's number, between -scale / 2 and scale / 2."""
    h = np.arange(shape.numel(), dtype=np.uint64)
    h *= np.uint64(2654435761)
    h += np.uint64(number * 97531 + 12345)
    h &= np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(15)
    h *= np.uint64(2246822519)
    h &= np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(13)
    values = (h.astype(np.float64) / 2**32 - 0.5) * scale
    return torch.from_numpy(values.astype(np.float32)).view(shape)


@torch.no_grad()
def fill(conv: nn.Module, number: int, factor: float = 1.0) -> None:
    """Gives convolution ``number`` its weights, and its bias if it has one."""
    fan_in = conv.weight[0].numel()
    conv.weight.copy_(formula(conv.weight.shape, number, factor * np.sqrt(24 / fan_in)))
    if conv.bias is not None:
        conv.bias.copy_(formula(conv.bias.shape, 1000 + number, 0.1))


def make_vgg() -> AtrousVGG16:
    """VGG-16 with the formula's weights."""
    net = AtrousVGG16().eval()
    for number, name in enumerate([*conv_names(), "fc6", "fc7"]):
        fill(net.get_submodule(name), number)
    return net


def resnet_convs(net: nn.Module) -> Iterator[tuple[nn.Module, float]]:
    """Convolutions of a ResNet in the order of their numbers, each with a factor of its weights."""
    yield net.stem.conv1, 1.0
    for stage in net.stages:
        for block in stage:
            yield block.conv1, 1.0
            yield block.conv2, 1.0
            yield block.conv3, 0.1
            if block.shortcut is not None:
                yield block.shortcut, 1.0


@cache
def vgg_features(image: bytes, shape: tuple[int, ...]) -> dict[int, np.ndarray]:
    """fc7 of dilations 1 and 12."""
    net, out = make_vgg(), {}
    for dilation in (1, 12):
        net.fc6.dilation = net.fc6.padding = (dilation, dilation)
        with torch.no_grad():
            out[dilation] = net(_image(image, shape))["fc7"][0].numpy()
    return out


@cache
def resnet_features(image: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The last stage of ResNet-101, and the sum of the dilated branches on it."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_atrous_resnet_backbone"
    cfg.MODEL.RESNETS.DEPTH = 101
    net = build_backbone(cfg).eval()
    for module in net.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_var.fill_(1)
    convs = list(resnet_convs(net))
    for number, (conv, factor) in enumerate(convs):
        fill(conv, number, factor)
    head = AtrousSum(2048, 256, RATES)
    for number, branch in enumerate(m for m in head.modules() if isinstance(m, nn.Conv2d)):
        fill(branch, len(convs) + number)
    with torch.no_grad():
        features = net(_image(image, shape))["res5"]
        return features[0].numpy(), head(features)[0].numpy()


def _image(image: bytes, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(image, dtype=np.float32).reshape(shape).copy())[None]


@check(
    "bana",
    "networks",
    "input# vgg_dil1_feat# vgg_dil12_feat# res101_aspp_feat# res101_layer5_#"
    " vgg_dil1_feat_hw# vgg_dil12_feat_hw# res_feat_hw#",
)
def bana_networks(arrays: Arrays) -> Iterator[Comparison]:
    """Both VGGs, ResNet-101 and the head of DeepLab-V2 on it."""
    assert DILATIONS == (1, 1, 2, 4)
    for i in cases(arrays, "input#"):
        image = np.ascontiguousarray(arrays[f"input{i}"], dtype=np.float32)
        vgg = vgg_features(image.tobytes(), image.shape)
        layer5, aspp = resnet_features(image.tobytes(), image.shape)
        found = {f"vgg_dil{d}_feat": features[::16] for d, features in vgg.items()}
        found |= {"res101_layer5_": layer5[::64], "res101_aspp_feat": aspp[::4]}
        sizes = {f"vgg_dil{d}_feat_hw": features.shape[1:] for d, features in vgg.items()}
        sizes["res_feat_hw"] = layer5.shape[1:]
        yield from each(arrays, found, close, 1e-3, 1e-4, case=f"{{}}{i}")
        yield from each(arrays, sizes, case=f"{{}}{i}")
