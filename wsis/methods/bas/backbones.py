"""Networks that are cut in two: a trunk up to a feature map that is tapped, and the tail behind it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.inception import InceptionB, InceptionD

from wsis.config.params import key, node, read
from wsis.config.rules import Rule, one_of
from wsis.errors import ConfigError
from wsis.modeling.backbones.timm_backbone import TimmParams, build_timm_backbone

TAP, TAIL = "tap", "tail"
NETWORKS = ("vgg16", "mobilenet_v1", "resnet50", "inception_v3", "timm")
MOBILENET = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 1)),
    *(((512, 1),) * 5),
    *((1024, 2), (1024, 1)),
)
"""Output channels and stride of MobileNetV1's depthwise blocks; the stock network has stride 2 in the sixth."""
_PROBE = 64
"""Side of the image on which a network and its two parts are compared."""


@node("MODEL.TAPPED")
@dataclass(frozen=True)
class TappedParams:
    """Backbone "build_tapped_backbone".

    Attributes:
        network: The networks "vgg16", "mobilenet_v1", "resnet50" and "inception_v3" have the strides and taps of BAS;
            "timm" is the network of MODEL.TIMM, whose OUT_INDICES are the tap and the last map.
        tap: Of "timm": the name of the module that is tapped, such as "blocks.5"; "" = the one of the first of
            MODEL.TIMM.OUT_INDICES.
        tap_stride: Of "resnet50": 8 (localisation: layers 3 and 4 do not stride) or 16 (semantic seeds: layer 4).
        pool: Of "resnet50" and "timm": a max pool halves the tapped map before the tail.
    """

    network: str = key("resnet50", one_of(NETWORKS))
    tap: str = key("")
    tap_stride: int = key(8, Rule("8 or 16", lambda value: value in (8, 16)))
    pool: bool = key(True)


class TappedBackbone(Backbone):
    """Trunk and tail. Modules keep the names of the network that was cut, behind ``trunk.`` and ``tail.``.

    Args:
        trunk: image to the tapped map.
        tail: tapped map to the last one.
        stride: of the tapped map.
    """

    def __init__(self, trunk: nn.Module, tail: nn.Module, stride: int) -> None:
        super().__init__()
        self.trunk, self.tail = trunk, tail
        image = torch.zeros(1, 3, _PROBE, _PROBE)
        training, _ = self.training, self.eval()
        with torch.no_grad():
            maps = self(image)
        self.train(training)
        halved = maps[TAP].shape[-1] // maps[TAIL].shape[-1]
        self._shapes = {
            TAP: ShapeSpec(channels=maps[TAP].shape[1], stride=stride),
            TAIL: ShapeSpec(channels=maps[TAIL].shape[1], stride=stride * halved),
        }

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W), normalised, to the maps ``tap`` and ``tail``."""
        features = self.trunk(x)
        return {TAP: features, TAIL: self.tail(features)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of both maps."""
        return self._shapes

    def placed(self, weights: Mapping[str, Any]) -> dict[str, Any] | None:
        """Weights under the names of the uncut network as this backbone names them; None if they are of another one.

        What is of neither part (a classifier, auxiliary heads) is left out.
        """
        parts = {
            name.partition(".")[2]: name
            for name in self.state_dict()
            if name.startswith(("trunk", "tail"))
        }
        found = {parts[name]: value for name, value in weights.items() if name in parts}
        return found or self._by_order(weights)

    def _by_order(self, weights: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same tensors in the same order under other names, as those of the release's MobileNetV1."""
        own, theirs = (
            {name: tuple(value.shape) for name, value in state.items() if _is_no_counter(name)}
            for state in (self.state_dict(), weights)
        )
        if list(own.values()) != list(theirs.values()):
            return None
        return {ours: weights[name] for ours, name in zip(own, theirs, strict=True)}


def _is_no_counter(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


@BACKBONE_REGISTRY.register()
def build_tapped_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TappedBackbone:
    """The network that ``MODEL.TAPPED`` names.

    Raises:
        ConfigError: a value out of its range; or timm's network cannot be cut where ``MODEL.TIMM`` says.
    """
    params = read(cfg, TappedParams)
    if params.network == "timm":
        return _tapped_timm(cfg, input_shape, params)
    if params.network == "resnet50":
        return tapped_resnet50(params.tap_stride, params.pool)
    return {
        "vgg16": tapped_vgg16,
        "mobilenet_v1": tapped_mobilenet,
        "inception_v3": tapped_inception,
    }[params.network]()


def tapped_vgg16() -> TappedBackbone:
    """VGG-16 up to the ReLU after conv4_3, then a max pool and conv5_1 to conv5_3 with ReLU."""
    net = models.vgg16(weights=None, init_weights=False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
    return TappedBackbone(*cut(net, "features.22", "features.29"), stride=8)


def tapped_mobilenet() -> TappedBackbone:
    """MobileNetV1 up to depthwise block 11, then the two blocks of 1024 channels."""
    blocks = [conv_norm(3, 32, 3, stride=2)]
    channels = 32
    for out, stride in MOBILENET:
        depthwise = conv_norm(channels, channels, 3, stride=stride, groups=channels)
        blocks.append(nn.Sequential(*depthwise, *conv_norm(channels, out, 1)))
        channels = out
    net = nn.ModuleDict({"model": nn.Sequential(*blocks)})
    xavier_(net)
    return TappedBackbone(*cut(net, "model.11", "model.13"), stride=8)


def conv_norm(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def tapped_resnet50(stride: int = 8, pool: bool = True) -> TappedBackbone:
    """ResNet-50 up to layer 3, then layer 4, which does not stride.

    Args:
        stride: of the tapped map; 8 takes the stride from layer 3, too.
        pool: a max pool before layer 4.
    """
    net = models.resnet50(weights=None)
    for layer in (net.layer3, net.layer4)[stride == 16 :]:
        layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
    xavier_(net)
    return TappedBackbone(*cut(net, "layer3", "layer4", pool), stride=stride)


class _StrideFreeB(InceptionB):
    """The block that goes from 288 to 768 channels, without its stride."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        first, second, _ = super()._forward(x)
        return [first, second, functional.max_pool2d(x, kernel_size=3, stride=1, padding=1)]


class _PaddedD(InceptionD):
    """The block that goes from 768 to 1280 channels, with a padding of 1 where it strides."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        first, second, _ = super()._forward(x)
        return [first, second, functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)]


def tapped_inception() -> TappedBackbone:
    """InceptionV3 up to Mixed_6e at stride 8, then Mixed_7a to Mixed_7c."""
    net = models.inception_v3(weights=None, aux_logits=False, init_weights=False)
    net.Conv2d_1a_3x3.conv.padding = (1, 1)
    net.maxpool1, net.maxpool2 = (nn.MaxPool2d(3, 2, padding=1, ceil_mode=True) for _ in range(2))
    net.Mixed_6a, net.Mixed_7a = _StrideFreeB(288), _PaddedD(768)
    for block in (net.Mixed_6a.branch3x3, net.Mixed_6a.branch3x3dbl_3):
        block.conv.stride = block.conv.padding = (1, 1)
    for block in (net.Mixed_7a.branch3x3_2, net.Mixed_7a.branch7x7x3_4):
        block.conv.padding = (1, 1)
    xavier_(net)
    return TappedBackbone(*cut(net, "Mixed_6e", "Mixed_7c"), stride=8)


def _tapped_timm(cfg: CfgNode, input_shape: ShapeSpec, params: TappedParams) -> TappedBackbone:
    timm = read(cfg, TimmParams)
    if len(timm.out_indices) != 2:
        raise ConfigError(
            f"MODEL.TIMM.OUT_INDICES: found {list(timm.out_indices)}, expected two maps: the tap and the last one"
        )
    whole = build_timm_backbone(cfg, input_shape)
    info = [whole.net.feature_info[i]["module"] for i in whole.indices]
    info[0] = params.tap or info[0]
    training, _ = whole.training, whole.eval()
    image = torch.randn(1, input_shape.channels, _PROBE, _PROBE)
    with torch.no_grad():
        expected = list(whole(image).values())[bool(params.tap) :]
        try:
            trunk, tail = cut(whole.net, *info)
            features = trunk(image)
            found = [features, tail(features)][bool(params.tap) :]
        except (TypeError, KeyError, RuntimeError, NotImplementedError):
            found = []
    if not found or not all(map(torch.allclose, found, expected)):
        raise ConfigError(
            f"MODEL.TIMM.NAME: {timm.name} is no chain of modules that could be cut after {info[0]}; expected one "
            "such as resnet50, efficientnet_lite0 or convnext_tiny"
        )
    whole.train(training)
    if params.pool:
        tail = _pooled(tail)
    return TappedBackbone(trunk, tail, stride=_PROBE // features.shape[-1])


def cut(
    net: nn.Module, tap: str, end: str, pool: bool = False
) -> tuple[nn.Sequential, nn.Sequential]:
    """A chain of modules in two parts, which hold its modules under their names.

    Args:
        net: whose children run one after the other.
        tap: name of the last module of the first part, with one dot at most.
        end: name of the last module of the second part; what follows it is dropped.
        pool: a max pool begins the second part.

    Raises:
        KeyError: there is no such module.
    """
    names = {tap, end}
    chain = list(_links(net, {name.partition(".")[0] for name in names if "." in name}))
    order = [name for name, _ in chain]
    if not names <= set(order):
        raise KeyError(f"{tap} or {end} is none of {', '.join(order)}")
    middle, last = order.index(tap) + 1, order.index(end) + 1
    tail = _nested(chain[middle:last])
    return _nested(chain[:middle]), _pooled(tail) if pool else tail


def _links(net: nn.Module, opened: set[str]) -> Iterator[tuple[str, nn.Module]]:
    for name, child in net.named_children():
        if name in opened:
            yield from ((f"{name}.{inner}", each) for inner, each in child.named_children())
        else:
            yield name, child


def _nested(chain: list[tuple[str, nn.Module]]) -> nn.Sequential:
    """Modules in their order; those of one parent, which stand side by side, in a module of its name."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in chain:
        parent, _, inner = name.rpartition(".")
        if parent:
            modules.setdefault(parent, nn.Sequential()).add_module(inner, module)
        else:
            modules[name] = module
    return nn.Sequential(modules)


class Halving(nn.Module):
    """A max pool of 2 x 2; a side of one cell stays, so that images of any size have a last map."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, h / 2, w / 2), rounded down, and at least 1."""
        return functional.max_pool2d(x, [min(2, side) for side in x.shape[2:]])


def _pooled(tail: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(OrderedDict([("pool", Halving()), *tail.named_children()]))


def xavier_(module: nn.Module) -> None:
    """Convolutions get uniform weights by Glorot's rule, and biases of 0."""
    for each in module.modules():
        if isinstance(each, nn.Conv2d):
            nn.init.xavier_uniform_(each.weight)
            if each.bias is not None:
                nn.init.zeros_(each.bias)
