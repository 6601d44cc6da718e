"""Networks cut in two, and weights of other releases in them."""

import pytest
import timm
import torch
from detectron2.modeling import build_backbone
from torchvision import models

from wsis.config import get_cfg
from wsis.engine import WsisCheckpointer
from wsis.errors import ConfigError
from wsis.methods.bas import backbones
from wsis.methods.bas.network import BASNetwork

TIMM = {"NETWORK": "timm", "POOL": False}


def build(name="resnet10t", indices=(-2, -1), stride=32, **tapped):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_tapped_backbone"
    for key, value in (TIMM | tapped).items():
        cfg.MODEL.TAPPED[key] = value
    cfg.MODEL.TIMM.NAME = name
    cfg.MODEL.TIMM.OUT_INDICES = list(indices)
    cfg.MODEL.TIMM.OUTPUT_STRIDE = stride
    return build_backbone(cfg)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "stride", "keys", "expected"),
    [
        ("tf_efficientnet_lite0", 8, {"POOL": True}, {"tap": (112, 8), "tail": (320, 16)}),
        ("tf_efficientnet_lite0", 16, {"TAP": "blocks.5"}, {"tap": (192, 16), "tail": (320, 16)}),
        ("resnet10t", 32, {}, {"tap": (256, 16), "tail": (512, 32)}),
        ("convnext_atto", 32, {}, {"tap": (160, 16), "tail": (320, 32)}),
    ],
)
def test_a_timm_network_is_cut(name, stride, keys, expected):
    backbone = build(name, stride=stride, **keys)
    shapes = {key: (shape.channels, shape.stride) for key, shape in backbone.output_shape().items()}
    assert shapes == expected
    maps = backbone.eval()(torch.zeros(1, 3, 64, 96))
    found = {key: (m.shape[1], 96 // m.shape[3]) for key, m in maps.items()}
    assert found == expected
    # timm's own weights have their place in one of the parts
    weights = timm.create_model(name, num_classes=0).state_dict()
    placed = backbone.placed(weights)
    assert placed.keys() == backbone.state_dict().keys()


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"name": "hrnet_w18_small"}, "hrnet_w18_small is no chain of modules"),
        ({"TAP": "blocks.9"}, "be cut after blocks.9"),
        ({"indices": (-1,)}, r"OUT_INDICES: found \[-1\], expected two maps"),
        ({"NETWORK": "alexnet"}, "MODEL.TAPPED.NETWORK: found 'alexnet', expected one of vgg16"),
        ({"tap_stride": 4}, "MODEL.TAPPED.TAP_STRIDE: found 4, expected 8 or 16"),
    ],
)
def test_what_cannot_be_cut(keys, line):
    with pytest.raises(ConfigError, match=line):
        build(**{key.upper() if key == "tap_stride" else key: value for key, value in keys.items()})


SHAPES = {
    "vgg16": ((512, 8), (512, 16)),
    "mobilenet_v1": ((512, 8), (1024, 16)),
    "resnet50": ((1024, 8), (2048, 16)),
    "inception_v3": ((768, 8), (2048, 16)),
}


def theirs(kind, weights):
    """Weights as the release names them, in training on several GPUs."""
    heads = {"head.": "classifier_cls.", "generator.": "classifier_loc.0."}
    if kind == "vgg16":
        heads |= {f"{new}.": f"{old}." for old, new in network_names().items()}
    out = {}
    for name, value in weights.items():
        name = name.removeprefix("backbone.trunk.").removeprefix("backbone.tail.")
        for ours, other in heads.items():
            if name.startswith(ours):
                name = other + name.removeprefix(ours)
        out[f"module.{name}"] = value
    return out


def network_names():
    from wsis.methods.bas.network import _VGG_CONVS

    return _VGG_CONVS


@pytest.mark.parametrize("kind", SHAPES)
def test_published_networks_and_their_weights(kind, tmp_path):
    backbone = build(NETWORK=kind, POOL=True)
    found = [(s.channels, s.stride) for s in backbone.output_shape().values()]
    assert tuple(found) == SHAPES[kind]
    net = BASNetwork(backbone, 2, head_channels=4)
    expected = {name: value.clone() for name, value in net.state_dict().items()}
    torch.save({"model": theirs(kind, expected), "best_thr": 0.1, "epoch": 3}, tmp_path / "w.pth")
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    WsisCheckpointer(net, strict=True).load(str(tmp_path / "w.pth"))
    for name, value in net.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(("kind", "make"), [("vgg16", models.vgg16), ("resnet50", models.resnet50)])
def test_weights_of_torchvision(kind, make):
    weights = make(weights=None).state_dict()
    backbone = build(NETWORK=kind, POOL=True)
    placed = backbone.placed(weights)
    assert placed.keys() == backbone.state_dict().keys()


def test_weights_in_the_same_order_under_other_names():
    backbone = backbones.tapped_mobilenet()
    own = {n: v for n, v in backbone.state_dict().items() if not n.endswith("tracked")}
    weights = {f"features.{i}": value for i, value in enumerate(own.values())}
    placed = backbone.placed(weights)
    assert placed.keys() == own.keys() and all(placed[name] is own[name] for name in own)
    weights["features.0"] = torch.zeros(1)
    assert backbone.placed(weights) is None
