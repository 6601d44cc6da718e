"""Stage 3's weights in the form of the original release, made here, load into BANASegmentor."""

from __future__ import annotations

import re

import pytest
import torch
from detectron2.modeling import build_model

from tests.methods.bana.tiny_segmentor import RESNET, flat, make_cfg
from wsis.engine import WsisCheckpointer
from wsis.errors import ConfigError
from wsis.methods.bana.seg_key_map import from_original_head

CONVS = {"conv1": "reduce", "conv2": "conv3x3", "conv3": "increase", "shortcut": "shortcut"}


def original_name(name: str) -> str:
    """Our name of a parameter to the release's (spec 3)."""
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


def make(network: dict):
    return build_model(make_cfg(**network))


@pytest.mark.parametrize(
    "network", [flat(RESNET), {"MODEL__VGG__NORM": ""}], ids=["deeplab_v2", "deeplab_v1"]
)
def test_a_whole_network_comes_back(tmp_path, network) -> None:
    torch.manual_seed(1)
    model = make(network)
    state = {name: torch.rand_like(v) for name, v in model.state_dict().items()}
    torch.save({original_name(name): v for name, v in state.items()}, tmp_path / "w.pth")
    WsisCheckpointer(model, strict=True).load(str(tmp_path / "w.pth"))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], msg=name)


def test_our_own_weights_are_left_alone(tmp_path) -> None:
    model = make({})
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    other = make({})
    with torch.no_grad():
        other.classifier.weight.zero_()
    WsisCheckpointer(other, strict=True).load(str(tmp_path / "w.pth"))
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_branches_keep_their_order_and_nothing_else_is_one() -> None:
    weights = {
        "x.ASPP.b.weight": torch.full((2, 3, 3, 3), 1.0),
        "x.ASPP.a.weight": torch.full((2, 3, 3, 3), 2.0),
        "x.layer2.block1.conv3x3.conv.weight": torch.zeros(2, 2, 3, 3),
        "conv1_1.weight": torch.zeros(2, 3, 3, 3),
        "fc6.weight": torch.zeros(2, 3, 3, 3),
        "x.classifier.weight": torch.zeros(4, 2, 1, 1),
    }
    found = from_original_head(weights)
    assert {name: v.mean().item() for name, v in found.items()} == {
        "head.branches.0.weight": 1.0,
        "head.branches.1.weight": 2.0,
    }


def test_a_file_without_branches_does_not_pass_for_deeplab_v2(tmp_path) -> None:
    model = make(flat(RESNET))
    state = {
        original_name(name): v for name, v in model.state_dict().items() if "branches" not in name
    }
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"head\.branches\.0\.weight"):
        WsisCheckpointer(model, strict=True).load(str(tmp_path / "w.pth"))
