"""Weights of the original release, of Caffe and of torchvision load into the classifier and the segmentor."""

import re

import pytest
import torch
from detectron2.modeling import build_model

from tests.methods.bana import tiny_classifier, tiny_segmentor
from tests.methods.bana.tiny_segmentor import ASPP, RESNET
from wsis.engine import WsisCheckpointer
from wsis.errors import ConfigError
from wsis.methods.bana.key_map import from_foreign, is_foreign
from wsis.modeling.backbones.vgg16 import AtrousVGG16, conv_names

PLAIN = {"MODEL.VGG.NORM": ""}
CONVS = {"conv1": "reduce", "conv2": "conv3x3", "conv3": "increase", "shortcut": "shortcut"}


def build(tiny, **keys):
    return build_model(tiny.make_cfg(**keys))


def load(model, weights, path, strict=True):
    """The model's state after other values and these weights."""
    torch.save(weights, path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    WsisCheckpointer(model, strict=strict).load(str(path))
    return model.state_dict()


def original_name(name):
    """Our name of a parameter to the release's."""
    name = name.removeprefix("backbone.")
    kind = "bn" if ".norm." in name else "conv"
    part = name.rpartition(".")[2]
    if name.startswith("stem."):
        return f"backbone.layer1.conv1.{kind}.{part}"
    if found := re.match(r"res(\d)\.(\d+)\.(\w+)\.", name):
        stage, block, conv = found[1], int(found[2]) + 1, CONVS[found[3]]
        return f"backbone.layer{stage}.block{block}.{conv}.{kind}.{part}"
    if found := re.match(r"head\.branches\.(\d)\.", name):
        return f"ASPP.c{int(found[1]) + 1}.{part}"
    return name


def original(state):
    return {original_name(name): value for name, value in state.items()}


@pytest.mark.parametrize(
    ("tiny", "network", "rename"),
    [
        *((tiny_classifier, PLAIN, prefix) for prefix in ("module.", "net.", "")),
        (tiny_classifier, RESNET | {"MODEL.RESNETS.DEPTH": 101}, None),
        (tiny_segmentor, ASPP, None),
        (tiny_segmentor, PLAIN, None),
    ],
)
def test_a_whole_network_comes_back(tmp_path, tiny, network, rename):
    expected = {n: torch.rand_like(v) for n, v in build(tiny, **network).state_dict().items()}
    weights = original(expected)
    if rename:
        weights = {rename + name: value for name, value in expected.items()}
    assert is_foreign(weights)
    if tiny is tiny_classifier and rename is None:
        weights = {"state_dict": weights}
    found = load(build(tiny, **network), weights, tmp_path / "w.pth")
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("network", [{}, PLAIN])
def test_our_own_names_are_left_alone(tmp_path, network):
    assert not is_foreign(build(tiny_classifier, **network).state_dict())
    expected = build(tiny_segmentor, **network).state_dict()
    found = load(build(tiny_segmentor, **network), {"model": expected}, tmp_path / "w.pth")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def caffe_vgg():
    """One channel each, which is enough for names."""
    names = [*conv_names(), "fc6", "fc7"]
    return {f"{n}.{part}": torch.zeros(1) for n in names for part in ("weight", "bias")}


def test_caffes_own_file_has_no_classifier():
    found = from_foreign(caffe_vgg() | {"fc8.weight": torch.zeros(1)})
    assert sorted(found) == sorted(f"backbone.{name}" for name in caffe_vgg())


def test_a_missing_layer_is_named():
    weights = caffe_vgg()
    del weights["conv4_2.bias"]
    with pytest.raises(ConfigError, match="weights of VGG-16: conv4_2 is missing"):
        from_foreign(weights)


def test_branches_keep_their_order_and_nothing_else_is_one():
    other = {"x.layer1.conv1.conv.weight": torch.zeros(2, 3, 7, 7)}
    other |= dict.fromkeys(("conv1_1.weight", "fc6.weight"), torch.zeros(2, 3, 3, 3))
    other |= {"x.layer2.block1.conv3x3.conv.weight": torch.zeros(2, 2, 3, 3)}
    weights = {"x.ASPP.b.weight": torch.full((2, 3, 3, 3), 1.0)}
    weights |= {"x.ASPP.a.weight": torch.full((2, 3, 3, 3), 2.0)}
    weights |= other | {"x.classifier.weight": torch.zeros(4, 2, 1, 1)}
    found = from_foreign(weights)
    head = {name: v.mean().item() for name, v in found.items() if name.startswith("head")}
    assert head == {"head.branches.0.weight": 1.0, "head.branches.1.weight": 2.0}


def test_a_file_without_branches_does_not_pass_for_deeplab_v2(tmp_path):
    model = build(tiny_segmentor, **ASPP)
    state = {name: v for name, v in model.state_dict().items() if "branches" not in name}
    with pytest.raises(ConfigError, match=r"head\.branches\.0\.weight"):
        load(model, original(state), tmp_path / "w.pth")


def test_the_backbone_alone_leaves_the_classifier_as_it_was(tmp_path):
    net = AtrousVGG16(width=1 / 16).state_dict()
    found = load(build(tiny_classifier, **PLAIN), net, tmp_path / "vgg.pth", strict=False)
    assert torch.equal(found["backbone.fc7.weight"], net["fc7.weight"])
    assert (found["classifier.weight"] == 7).all()


@pytest.mark.parametrize(
    "numbers", [(0, 3, 7, 10, 14, 17, 20, 24, 28), (0, 2, 5, 7, 10, 12, 14, 28)]
)
def test_relatives_of_torchvisions_vgg16_are_not_taken_for_it(tmp_path, numbers):
    """With batch norm, and with 19 layers: some of the names are the same."""
    layers = [*(f"features.{n}" for n in numbers), "classifier.0", "classifier.3"]
    weights = {f"{n}.{part}": torch.zeros(1) for n in layers for part in ("weight", "bias")}
    assert not is_foreign(weights)
    with pytest.raises(ConfigError, match="the weights do not match the model"):
        load(build(tiny_classifier, **PLAIN), weights, tmp_path / "other.pth", strict=False)
