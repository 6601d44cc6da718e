"""Weights of the original release, and of ImageNet, load as they are."""

import pytest
import torch
from detectron2.utils.file_io import PathManager
from safetensors.torch import save_file

from tests.methods.boxcaseg.tiny import make_model
from wsis.engine import WsisCheckpointer
from wsis.errors import ConfigError
from wsis.methods.boxcaseg.key_map import from_hrnet, is_hrnet

HEADS = ("last_layer", "fcn", "transfer1.", "transfer2.", "transfer_bn")


def plain_names(model):
    names = ((name.removeprefix("network."), value) for name, value in model.state_dict().items())
    return {name: value.clone() for name, value in names}


def release(model, wrapper=""):
    """The same weights as the original release writes them."""
    state = {f"{wrapper}model.{name}": value for name, value in plain_names(model).items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    return {"epoch": 40, "state_dict": state, "optimizer": optimizer}


def imagenet(model):
    """The backbone's weights as HRNet has them, and its classifier."""
    state = {n: value for n, value in plain_names(model).items() if not n.startswith(HEADS)}
    more = {"classifier.weight": (10, 4), "incre_modules.0.0.conv1.weight": (2, 2, 1, 1)}
    return state | {name: torch.zeros(shape) for name, shape in more.items()}


@pytest.fixture
def models():
    model = make_model()
    torch.manual_seed(99)
    return model, make_model()


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_a_checkpoint_of_the_release_loads(tmp_path, wrapper, models):
    (model, other), path = models, tmp_path / "checkpoint.pth.tar"
    torch.save(release(model, wrapper), path)
    assert not torch.equal(other.network.fcn[0].weight, model.network.fcn[0].weight)
    WsisCheckpointer(other, strict=True).load(str(path))
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_what_lacks_is_named(tmp_path, models):
    data = release(models[0])
    del data["state_dict"]["model.transfer1.fc1.weight"]
    torch.save(data, tmp_path / "checkpoint.pth.tar")
    with pytest.raises(ConfigError, match=r"network\.transfer1\.fc1\.weight: missing"):
        WsisCheckpointer(models[1], strict=True).load(str(tmp_path / "checkpoint.pth.tar"))


@pytest.mark.parametrize("file_name", ["hrnetv2_pretrained.pth", "model.safetensors"])
def test_imagenet_weights_start_a_training(tmp_path, monkeypatch, models, file_name):
    (model, other), path, asked = models, str(tmp_path / file_name), []
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *a, force_download: asked.append(a) or path
    )
    start, heads = plain_names(other), 0
    if file_name == "model.safetensors":
        save_file(imagenet(model), path)
        WsisCheckpointer(other).load("timm://hrnet_w48")
        assert asked == [("timm/hrnet_w48.ms_in1k", file_name)]
    else:
        torch.save(imagenet(model), path)
        WsisCheckpointer(other).load(path)
    expected = plain_names(model)
    for name, value in plain_names(other).items():
        if name.startswith(HEADS):
            assert torch.equal(value, start[name]) or "transfer_bn" in name, name
            heads += 1
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(value, expected[name]), name
    assert heads == 7 + 7 + 12 + 5 + 4


def test_a_name_that_timm_does_not_have(models):
    with pytest.raises(ConfigError, match="timm has no weights of the name hrnet_w49"):
        WsisCheckpointer(models[0]).load("timm://hrnet_w49")
    with pytest.raises(FileNotFoundError):
        PathManager.get_local_path("timm://nothing")


def test_own_checkpoints_are_left_alone(models):
    model = models[0]
    released = release(model)["state_dict"]
    assert is_hrnet(released) and is_hrnet(imagenet(model)) and not is_hrnet(model.state_dict())
    assert set(from_hrnet(released)) == set(model.state_dict())
    assert not is_hrnet({"backbone.bottom_up.res2.0.conv1.weight": torch.zeros(1)})
