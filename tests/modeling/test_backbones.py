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
def test_a_crop_of_321_becomes_41():
    image = torch.zeros(1, 3, 321, 321)
    assert AtrousVGG16(width=NARROW)(image)["fc7"].shape[2:] == (41, 41)
    assert make_resnet()(image)["res5"].shape[2:] == (41, 41)


@torch.no_grad()
@pytest.mark.parametrize(("size", "expected"), [((375, 500), (47, 63)), ((64, 65), (8, 9))])
def test_sizes_halve_as_published(size, expected):
    net = AtrousVGG16(width=NARROW).eval()
    assert net(torch.zeros(1, 3, *size))["fc7"].shape[2:] == expected
    assert net.output_shape()["fc7"].stride == 8


@torch.no_grad()
def test_pools_of_two_or_a_stride_elsewhere_change_the_features(monkeypatch):
    recorded = read_arrays(DATA)
    net = make_vgg()
    image = torch.from_numpy(recorded["input0"])[None]
    expected = recorded["vgg_dil1_feat0"]
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
    first = make_resnet()
    second = make_resnet("MODEL.RESNETS.STRIDE_IN_1X1", False)
    second.load_state_dict(first.state_dict())
    image = torch.randn(1, 3, 65, 65)
    assert not torch.allclose(first(image)["res5"], second(image)["res5"], rtol=1e-2)


def test_number_of_parameters():
    assert sum(p.numel() for p in AtrousVGG16().parameters()) + 21 * 1024 == 20_505_408


@torch.no_grad()
def test_the_feature_is_not_negative_and_drops_channels_in_training_alone():
    net = AtrousVGG16(width=NARROW)
    image = torch.randn(1, 3, 33, 33)
    once, again = net.eval()(image)["fc7"], net(image)["fc7"]
    assert torch.equal(once, again) and (once >= 0).all()
    dropped = net.train()(image)["fc7"]
    assert (dropped.flatten(2).max(dim=2).values == 0).sum() > (
        once.flatten(2).max(2).values == 0
    ).sum()


def test_norms_take_the_place_of_biases():
    names = set(dict(AtrousVGG16(width=NARROW, norm="BN").named_parameters()))
    assert "conv1_1.norm.weight" in names and "conv1_1.bias" not in names


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


def torchvision_weights(units=8):
    """VGG-16 as torchvision names it, with fewer fully connected units."""
    sizes = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256)]
    sizes += [(512, 256)] + [(512, 512)] * 5
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    out = {}
    for number, (rows, columns) in zip(numbers, sizes, strict=True):
        out[f"features.{number}.weight"] = torch.randn(rows, columns, 3, 3)
        out[f"features.{number}.bias"] = torch.randn(rows)
    out["classifier.0.weight"] = torch.randn(units, 512 * 49)
    out["classifier.3.weight"] = torch.randn(units, units)
    out |= {f"classifier.{i}.bias": torch.randn(units) for i in (0, 3)}
    return out


def test_torchvisions_first_layer_sees_the_same_image():
    weights = torchvision_weights()
    found = from_torchvision(weights)
    rgb = torch.rand(1, 3, 9, 9)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    before = (rgb - mean[:, None, None]) / std[:, None, None]
    bgr = 255 * rgb.flip(1) - torch.tensor([103.53, 116.28, 123.675])[:, None, None]
    expected = functional.conv2d(before, weights["features.0.weight"])
    assert torch.allclose(functional.conv2d(bgr, found["conv1_1.weight"]), expected, atol=1e-3)


def test_torchvisions_fully_connected_layers_are_thinned_out():
    weights = torchvision_weights()
    found = from_torchvision(weights)
    assert [n.partition(".")[0] for n in found if n.endswith("bias")] == [
        *conv_names(),
        "fc6",
        "fc7",
    ]
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
    weights = {name: torch.zeros(1) for name in pairs} | {"base.fc.weight": torch.zeros(1)}
    assert is_caffe_resnet(weights)
    assert list(from_caffe_resnet(weights)) == list(pairs.values())
    known = set(make_resnet(depth=101).state_dict())
    assert set(pairs.values()) <= known
