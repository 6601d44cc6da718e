"""Weights of the original release, and of ImageNet, load as they are."""

import pytest
import torch
from detectron2.utils.file_io import PathManager
from safetensors.torch import save_file

from tests.methods.boxcaseg.tiny import make_model
from wsis.engine import WsisCheckpointer
from wsis.errors import ConfigError
from wsis.methods.boxcaseg.key_map import from_hrnet, is_hrnet


def other_model(*opts):
    torch.manual_seed(99)
    return make_model(*opts)


def release(model):
    """The same weights as the original release writes them."""
    names = ((name.removeprefix("network."), value) for name, value in model.state_dict().items())
    state = {f"model.{name}": value.clone() for name, value in names}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    return {"epoch": 40, "state_dict": state, "optimizer": optimizer}


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_a_checkpoint_of_the_release_loads(tmp_path, wrapper):
    model, path = make_model(), tmp_path / "checkpoint.pth.tar"
    data = release(model)
    data["state_dict"] = {wrapper + name: value for name, value in data["state_dict"].items()}
    torch.save(data, path)
    other = other_model()
    assert not torch.equal(other.network.fcn[0].weight, model.network.fcn[0].weight)
    WsisCheckpointer(other, strict=True).load(str(path))
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_what_lacks_is_named(tmp_path):
    data = release(make_model())
    del data["state_dict"]["model.transfer1.fc1.weight"]
    torch.save(data, tmp_path / "checkpoint.pth.tar")
    with pytest.raises(ConfigError, match=r"network\.transfer1\.fc1\.weight: missing"):
        WsisCheckpointer(other_model(), strict=True).load(str(tmp_path / "checkpoint.pth.tar"))


def imagenet(model):
    """The backbone's weights as HRNet has them, and its classifier."""
    heads = ("last_layer", "fcn", "transfer1.", "transfer2.", "transfer_bn")
    names = ((name.removeprefix("network."), value) for name, value in model.state_dict().items())
    state = {name: value.clone() for name, value in names if not name.startswith(heads)}
    state["classifier.weight"] = torch.zeros(10, 4)
    state["incre_modules.0.0.conv1.weight"] = torch.zeros(2, 2, 1, 1)
    return state


def check_backbone(found, expected, start):
    heads = 0
    for name, value in found.state_dict().items():
        if name.startswith(("network.last_layer", "network.fcn", "network.transfer")):
            assert torch.equal(value, start[name]) or "transfer_bn" in name, name
            heads += 1
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(value, expected.state_dict()[name]), name
    assert heads == 7 + 7 + 12 + 5 + 4


def test_imagenet_weights_start_a_training(tmp_path, monkeypatch):
    model, other = make_model(), other_model()
    start = {name: value.clone() for name, value in other.state_dict().items()}
    path = tmp_path / "model.safetensors"
    save_file(imagenet(model), path)
    asked = []

    def download(repository, name, force_download):
        asked.append((repository, name))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    WsisCheckpointer(other).load("timm://hrnet_w48")
    assert asked == [("timm/hrnet_w48.ms_in1k", "model.safetensors")]
    check_backbone(other, model, start)


def test_a_plain_file_of_imagenet_weights_too(tmp_path):
    model, other = make_model(), other_model()
    start = {name: value.clone() for name, value in other.state_dict().items()}
    torch.save(imagenet(model), tmp_path / "hrnetv2_pretrained.pth")
    WsisCheckpointer(other).load(str(tmp_path / "hrnetv2_pretrained.pth"))
    check_backbone(other, model, start)


def test_a_name_that_timm_does_not_have():
    with pytest.raises(ConfigError, match="timm has no weights of the name hrnet_w49"):
        WsisCheckpointer(make_model()).load("timm://hrnet_w49")
    with pytest.raises(FileNotFoundError):
        PathManager.get_local_path("timm://nothing")


def test_own_checkpoints_are_left_alone(tmp_path):
    model = make_model()
    assert not is_hrnet(model.state_dict())
    assert is_hrnet(release(model)["state_dict"]) and is_hrnet(imagenet(model))
    assert set(from_hrnet(release(model)["state_dict"])) == set(model.state_dict())
    assert not is_hrnet({"backbone.bottom_up.res2.0.conv1.weight": torch.zeros(1)})
