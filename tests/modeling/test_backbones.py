"""Backbones with output stride 8: sizes, recorded features, and weights from elsewhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_backbone
from torch.nn import functional

from tests.golden.checks_bana_networks import make_vgg
from tests.golden.frame import read_arrays
from wsis.config import get_cfg
from wsis.errors import ConfigError
from wsis.modeling.backbones import vgg16
from wsis.modeling.backbones.resnet_atrous import from_caffe_resnet, is_caffe_resnet
from wsis.modeling.backbones.vgg16 import AtrousVGG16, conv_names, from_torchvision

DATA = Path(__file__).parents[1] / "golden" / "data" / "bana" / "networks.npz"
NARROW = 1 / 16


def make_resnet(*opts, depth=50):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_atrous_resnet_backbone"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 4
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 2
    cfg.merge_from_list(list(opts))
    return build_backbone(cfg).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "expected"), [((321, 321), (41, 41)), ((375, 500), (47, 63)), ((64, 65), (8, 9))]
)
def test_sizes_halve_as_published(size, expected):
    net, image = AtrousVGG16(width=NARROW).eval(), torch.zeros(1, 3, *size)
    assert net(image)["fc7"].shape[2:] == expected
    assert net.output_shape()["fc7"].stride == 8
    assert size != (321, 321) or make_resnet()(image)["res5"].shape[2:] == expected


@torch.no_grad()
def test_pools_of_two_or_a_stride_elsewhere_change_the_features(monkeypatch):
    recorded, net = read_arrays(DATA), make_vgg()
    image, expected = torch.from_numpy(recorded["input0"])[None], recorded["vgg_dil1_feat0"]
    assert np.allclose(net(image)["fc7"][0, ::16], expected, rtol=1e-3, atol=1e-4)
    plain = functional.max_pool2d
    monkeypatch.setattr(
        vgg16.functional, "max_pool2d", lambda x, *_, stride, **__: plain(x, 2, stride)
    )
    found = net(image)["fc7"][0, ::16]
    assert found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-1)


@torch.no_grad()
def test_the_stride_of_a_bottleneck_is_where_it_was():
    torch.manual_seed(1)
    first, second = make_resnet(), make_resnet("MODEL.RESNETS.STRIDE_IN_1X1", False)
    second.load_state_dict(first.state_dict())
    image = torch.randn(1, 3, 65, 65)
    assert not torch.allclose(first(image)["res5"], second(image)["res5"], rtol=1e-2)


def test_parameters_and_norms_in_the_place_of_biases():
    assert sum(p.numel() for p in AtrousVGG16().parameters()) + 21 * 1024 == 20_505_408
    names = set(dict(AtrousVGG16(width=NARROW, norm="BN").named_parameters()))
    assert "conv1_1.norm.weight" in names and "conv1_1.bias" not in names


@torch.no_grad()
def test_the_feature_is_not_negative_and_drops_channels_in_training_alone():
    net, image = AtrousVGG16(width=NARROW).eval(), torch.randn(1, 3, 33, 33)
    once, again = net(image)["fc7"], net(image)["fc7"]
    assert torch.equal(once, again) and (once >= 0).all()
    dropped = net.train()(image)["fc7"]
    off, off_before = ((each.flatten(2).amax(dim=2) == 0).sum() for each in (dropped, once))
    assert off > off_before


@pytest.mark.parametrize(
    ("key", "value"), [("FC6_DILATION", 0), ("WIDTH", 0.0), ("WIDTH", 2.0), ("DROPOUT", 1.0)]
)
def test_values_out_of_range_are_named(key, value):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_atrous_vgg16_backbone"
    cfg.MODEL.VGG[key] = value
    with pytest.raises(ConfigError, match=rf"MODEL.VGG.{key}: found {value}"):
        build_backbone(cfg)


def test_a_resnet_without_bottlenecks_cannot_be_dilated():
    with pytest.raises(ConfigError, match=r"MODEL.RESNETS.DEPTH: found 18, expected one of 50"):
        make_resnet(depth=18)


@pytest.fixture(scope="module")
def torchvision():
    """VGG-16 as torchvision names it, with fewer fully connected units, and what becomes of it."""
    channels = (3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6)
    shapes = {"classifier.0": (8, 512 * 49), "classifier.3": (8, 8)}
    for i, number in enumerate((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)):
        shapes[f"features.{number}"] = (channels[i + 1], channels[i], 3, 3)
    weights = {f"{layer}.weight": torch.randn(shape) for layer, shape in shapes.items()}
    weights |= {f"{layer}.bias": torch.randn(shape[0]) for layer, shape in shapes.items()}
    return weights, from_torchvision(weights)


def test_torchvisions_first_layer_sees_the_same_image(torchvision):
    weights, found = torchvision
    rgb, mean, std = torch.rand(1, 3, 9, 9), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    mean, std, shift = (
        torch.tensor(each)[:, None, None] for each in (mean, std, [103.53, 116.28, 123.675])
    )
    expected = functional.conv2d((rgb - mean) / std, weights["features.0.weight"])
    ours = functional.conv2d(255 * rgb.flip(1) - shift, found["conv1_1.weight"])
    assert torch.allclose(ours, expected, atol=1e-3)


def test_torchvisions_fully_connected_layers_are_thinned_out(torchvision):
    weights, found = torchvision
    biases = [name.removesuffix(".bias") for name in found if name.endswith("bias")]
    assert biases == [*conv_names(), "fc6", "fc7"]
    seen = weights["classifier.0.weight"].view(8, 512, 7, 7)
    assert torch.allclose(found["fc6.weight"][1, :, 2, 1], seen[4, :, 6, 3] * 7 / 3)
    assert torch.allclose(found["fc7.weight"][1, 0, 0, 0], 2 * weights["classifier.3.weight"][4, 0])
    assert torch.equal(found["conv5_3.bias"], weights["features.28.bias"])
    assert torch.equal(found["fc7.bias"], weights["classifier.3.bias"][::4])


def test_names_of_a_caffe_resnet():
    pairs = {
        "base.layer1.conv1.conv.weight": "stem.conv1.weight",
        "base.layer1.conv1.bn.running_mean": "stem.conv1.norm.running_mean",
        "base.layer2.block1.reduce.conv.weight": "res2.0.conv1.weight",
        "base.layer4.block23.conv3x3.bn.bias": "res4.22.conv2.norm.bias",
        "base.layer5.block3.increase.conv.weight": "res5.2.conv3.weight",
        "base.layer3.block1.shortcut.bn.weight": "res3.0.shortcut.norm.weight",
    }
    weights = {name: torch.zeros(1) for name in [*pairs, "base.fc.weight"]}
    assert is_caffe_resnet(weights)
    assert list(from_caffe_resnet(weights)) == list(pairs.values())
    assert set(pairs.values()) <= set(make_resnet(depth=101).state_dict())
