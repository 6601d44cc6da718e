from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone
from torch import nn

from wsis.engine import WsisCheckpointer
from wsis.engine.checkpoint import load_pickle
from wsis.errors import ConfigError


class _Touch:
    """Unpickling it runs code: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def _model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def _error(model: nn.Module, path: Path | str, strict: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        WsisCheckpointer(model, strict=strict).load(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["pth", "pkl", "bin"])
@pytest.mark.parametrize("place", ["model", "elsewhere"])
def test_a_file_that_runs_code_is_refused_and_does_not_run(tmp_path, suffix, place):
    target, path = tmp_path / "ran", tmp_path / f"weights.{suffix}"
    data = {"model": {"0.weight": torch.zeros(1)}, "__author__": "x"}
    if place == "model":
        data["model"]["0.bias"] = _Touch(target)
    else:
        data["optimizer"] = _Touch(target)
    if suffix == "pkl":
        data["model"]["0.weight"] = np.zeros(1)
        path.write_bytes(pickle.dumps(data))
    else:
        torch.save(data, path)

    message = _error(_model(), path)

    assert not target.exists()
    assert str(path) in message
    assert "posix.mkdir" in message


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_arrays_and_containers_load(tmp_path, protocol):
    path = tmp_path / "data.pkl"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = {
        "array": array,
        "fortran": np.asfortranarray(array),
        "bytes": np.array([b"ab", b"c"]),
        "scalar": np.float64(1.5),
        "ordered": OrderedDict(a={1, 2}, b=(b"\xff", None, True)),
    }
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    with open(path, "rb") as stream:
        loaded = load_pickle(stream)
    assert loaded["ordered"] == value["ordered"]
    assert loaded["scalar"] == 1.5
    for name in ("array", "fortran", "bytes"):
        np.testing.assert_array_equal(loaded[name], value[name])


def test_pickles_that_name_the_old_numpy_and_python_2_text_load(tmp_path):
    new = pickle.dumps({"w": np.arange(3.0)}, protocol=2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new
    path = tmp_path / "old.pkl"
    # a Python 2 str: opcode U, one byte of length
    path.write_bytes(old.replace(b"X\x01\x00\x00\x00w", b"U\x02\xe9w"))
    with open(path, "rb") as stream:
        loaded = load_pickle(stream)
    np.testing.assert_array_equal(loaded["éw"], [0, 1, 2])


def _resnet() -> nn.Module:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 4
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    return nn.ModuleDict({"backbone": build_resnet_backbone(cfg, ShapeSpec(channels=3))})


def test_a_detectron2_zoo_pickle_loads_by_its_matching_heuristics(tmp_path):
    model, rng = _resnet(), np.random.default_rng(0)
    weights = {
        name.removeprefix("backbone."): rng.random(value.shape, dtype=np.float32)
        for name, value in model.state_dict().items()
    }
    path = tmp_path / "R-50.pkl"
    data = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(data))

    WsisCheckpointer(model, strict=True).load(str(path))

    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, weights[name.removeprefix("backbone.")], err_msg=name)


@pytest.mark.parametrize("wrap", [lambda blobs: blobs, lambda blobs: {"blobs": blobs}])
def test_a_caffe2_pickle_loads_by_its_names(tmp_path, wrap):
    model, rng = _resnet(), np.random.default_rng(0)
    stem = rng.random((4, 3, 7, 7), dtype=np.float32)
    branch = rng.random((8, 4, 1, 1), dtype=np.float32)
    blobs = {"conv1_w": stem, "res2_0_branch1_w": branch, "conv1_w_momentum": stem * 0, "lr": 0.1}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(wrap(blobs)))

    WsisCheckpointer(model).load(str(path))

    state = model.state_dict()
    np.testing.assert_array_equal(state["backbone.stem.conv1.weight"], stem)
    np.testing.assert_array_equal(state["backbone.res2.0.shortcut.weight"], branch)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state}])
def test_plain_and_wrapped_state_dicts_load(tmp_path, wrap):
    source, model = _model(), _model()
    torch.save(wrap(source.state_dict()), tmp_path / "w.pth")
    WsisCheckpointer(model, strict=True).load(str(tmp_path / "w.pth"))
    torch.testing.assert_close(dict(model.state_dict()), dict(source.state_dict()))


def test_weights_for_evaluation_must_match(tmp_path):
    state = _model().state_dict()
    del state["0.bias"], state["2.bias"]
    state["2.weight"] = torch.zeros(3, 4)
    state["1.weight"] = torch.zeros(5)
    torch.save(state, tmp_path / "w.pth")

    message = _error(_model(), tmp_path / "w.pth", strict=True)

    assert "w.pth" in message
    assert "of 9 parameters and buffers 4 are missing or of another shape" in message
    assert "0.bias: missing; 1.weight: (5,) in the file, (4,) in the model" in message
    assert "2.bias: missing; ..." in message
    assert "2.weight" not in message
    WsisCheckpointer(_model()).load(str(tmp_path / "w.pth"))  # as a start, the rest is fine


def test_pretrained_weights_of_which_nothing_fits_are_an_error(tmp_path):
    torch.save({"net.weight": torch.zeros(3), "1.running_mean": torch.ones(4)}, tmp_path / "w.pth")
    assert "do not match the model" in _error(_model(), tmp_path / "w.pth")


def test_batch_norm_counters_do_not_matter(tmp_path):
    plain = _model()
    plain[1].running_var.fill_(0.01)
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(_model())
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    WsisCheckpointer(frozen, strict=True).load(str(tmp_path / "plain.pth"))
    assert torch.equal(frozen[1].running_var, plain[1].running_var)

    torch.save(frozen.state_dict(), tmp_path / "frozen.pth")
    again = _model()
    WsisCheckpointer(again, strict=True).load(str(tmp_path / "frozen.pth"))
    assert torch.equal(again[1].running_var, plain[1].running_var)


def test_a_tensor_under_two_names_needs_to_be_there_once(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    state = model.state_dict()
    del state["b.weight"]
    torch.save(state, tmp_path / "w.pth")
    WsisCheckpointer(model, strict=True).load(str(tmp_path / "w.pth"))


def test_what_is_no_file_of_weights_is_said_in_one_line(tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save(_model().state_dict(), whole)
    half = tmp_path / "half.pth"
    half.write_bytes(whole.read_bytes()[:1000])
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pkl").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    torch.save({"model": 3}, tmp_path / "number.pth")
    for name in ("half.pth", "text.pth", "empty.pkl", "list.pth", "list.pkl", "number.pth"):
        assert str(tmp_path / name) in _error(_model(), tmp_path / name)
    assert "no such file" in _error(_model(), tmp_path / "none.pth")
    assert "no such file" in _error(_model(), tmp_path)


@pytest.mark.parametrize(
    "url", ["detectron2://x/R-50.pkl", "https://example.org/w.pth", "nope://w"]
)
def test_what_cannot_be_fetched_is_said_in_one_line(url, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.setenv("IOPATH_CACHE", str(tmp_path))
    assert f"MODEL.WEIGHTS: {url}" in _error(_model(), url)


def test_nothing_to_load(tmp_path):
    assert WsisCheckpointer(_model()).load("") == {}
    assert WsisCheckpointer(nn.Identity(), strict=True).load("") == {}
    with pytest.raises(ConfigError, match="MODEL.WEIGHTS: found nothing"):
        WsisCheckpointer(_model(), strict=True).load("")


def test_a_save_that_breaks_off_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    model = _model()
    checkpointer = WsisCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final", iteration=5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"model_final.pth", "last_checkpoint"}
    save = torch.save

    def half(data, stream):
        save(data, stream)
        stream.truncate(100)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    for name in ("model_final", "model_0000009"):
        with pytest.raises(KeyboardInterrupt):
            checkpointer.save(name, iteration=9)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 5


def test_saved_checkpoints_come_back_with_what_was_saved_beside_the_model(tmp_path):
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25, momentum=0.9)
    model[2](model[0](torch.ones(1, 3, 3, 3)).flatten(1)).sum().backward()
    optimizer.step()
    checkpointer = WsisCheckpointer(model, str(tmp_path), optimizer=optimizer)
    checkpointer.save("a", iteration=3)

    other = _model()
    fresh = torch.optim.SGD(other.parameters(), lr=0.5, momentum=0.9)
    rest = WsisCheckpointer(other, str(tmp_path), optimizer=fresh).resume_or_load("", resume=True)

    assert rest == {"iteration": 3}
    assert fresh.param_groups[0]["lr"] == 0.25
    momenta = [optimizer.state[p].get("momentum_buffer") for p in model.parameters()]
    found = [fresh.state[p].get("momentum_buffer") for p in other.parameters()]
    torch.testing.assert_close(found, momenta)
    assert any(m is not None and m.abs().sum() > 0 for m in momenta)


def test_processes_other_than_the_main_one_saves_nothing(tmp_path):
    WsisCheckpointer(_model(), str(tmp_path), save_to_disk=False).save("a")
    assert not list(tmp_path.iterdir())
