"""Weights of the original release, of Caffe and of torchvision load into the classifier."""

from __future__ import annotations

import pytest
import torch

from tests.methods.bana.tiny_classifier import make_classifier
from wsis.engine import WsisCheckpointer
from wsis.errors import ConfigError
from wsis.methods.bana.key_map import from_foreign, is_foreign
from wsis.modeling.backbones.vgg16 import AtrousVGG16, conv_names

RESNET = {
    "MODEL.BACKBONE.NAME": "build_atrous_resnet_backbone",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.DEPTH": 101,
}


def loaded(path, keys, strict=True):
    model = make_classifier(keys)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    WsisCheckpointer(model, strict=strict).load(str(path))
    return model.state_dict()


@pytest.mark.parametrize("prefix", ["module.", "net.", ""])
def test_a_checkpoint_of_the_original_release(tmp_path, prefix):
    keys = {"MODEL.VGG.NORM": ""}
    expected = make_classifier(keys).state_dict()
    released = {
        prefix + (name if prefix else name.removeprefix("backbone.")): value
        for name, value in expected.items()
    }
    assert is_foreign(released)
    torch.save(released, tmp_path / "stage1.pth")
    found = loaded(tmp_path / "stage1.pth", keys)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_our_own_names_are_left_alone(tmp_path):
    keys = {"MODEL.VGG.NORM": ""}
    state = make_classifier(keys).state_dict()
    assert not is_foreign(state)
    assert not is_foreign(make_classifier().state_dict())


def caffe_resnet(state):
    """Names of the original release, by hand."""
    places = {"conv1": "reduce", "conv2": "conv3x3", "conv3": "increase", "shortcut": "shortcut"}
    out = {}
    for name, value in state.items():
        parts = name.removeprefix("backbone.").split(".")
        kind = "bn" if "norm" in parts else "conv"
        if parts[0] == "stem":
            out[f"backbone.layer1.conv1.{kind}.{parts[-1]}"] = value
        elif parts[0].startswith("res"):
            block = f"layer{parts[0][3]}.block{int(parts[1]) + 1}.{places[parts[2]]}"
            out[f"backbone.{block}.{kind}.{parts[-1]}"] = value
        else:
            out[name] = value
    return out


def test_a_resnet_of_the_original_release(tmp_path):
    expected = make_classifier(RESNET).state_dict()
    torch.save({"state_dict": caffe_resnet(expected)}, tmp_path / "resnet.pth")
    found = loaded(tmp_path / "resnet.pth", RESNET)
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


def test_the_backbone_alone_leaves_the_classifier_as_it_was(tmp_path):
    net = AtrousVGG16(width=1 / 16)
    torch.save(net.state_dict(), tmp_path / "vgg.pth")
    found = loaded(tmp_path / "vgg.pth", {"MODEL.VGG.NORM": ""}, strict=False)
    assert torch.equal(found["backbone.fc7.weight"], net.state_dict()["fc7.weight"])
    assert (found["classifier.weight"] == 7).all()


@pytest.mark.parametrize(
    "numbers", [(0, 3, 7, 10, 14, 17, 20, 24, 28), (0, 2, 5, 7, 10, 12, 14, 28)]
)
def test_relatives_of_torchvisions_vgg16_are_not_taken_for_it(tmp_path, numbers):
    """With batch norm, and with 19 layers: some of the names are the same."""
    layers = [*(f"features.{n}" for n in numbers), "classifier.0", "classifier.3"]
    weights = {f"{n}.{part}": torch.zeros(1) for n in layers for part in ("weight", "bias")}
    assert not is_foreign(weights)
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="the weights do not match the model"):
        loaded(tmp_path / "other.pth", {"MODEL.VGG.NORM": ""}, strict=False)
