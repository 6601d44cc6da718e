from __future__ import annotations

import io
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


def _load(model: nn.Module, path: Path | str, strict: bool = True) -> dict:
    return WsisCheckpointer(model, strict=strict).load(str(path))


def _error(model: nn.Module, path: Path | str, strict: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(model, path, strict)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path):
    """``saved(data, name="w.pth")``: writes weights or a pickle; returns the path."""

    def save(data, name="w.pth", protocol=None):
        path = tmp_path / name
        if path.suffix == ".pkl":
            path.write_bytes(pickle.dumps(data, protocol=protocol))
        else:
            torch.save(data, path)
        return path

    return save


@pytest.mark.parametrize("suffix", ["pth", "pkl", "bin"])
@pytest.mark.parametrize("place", ["model", "elsewhere"])
def test_a_file_that_runs_code_is_refused_and_does_not_run(tmp_path, saved, suffix, place):
    target = tmp_path / "ran"
    weight = np.zeros(1) if suffix == "pkl" else torch.zeros(1)
    data = {"model": {"0.weight": weight}, "__author__": "x"}
    (data["model"] if place == "model" else data)["0.bias"] = _Touch(target)
    path = saved(data, f"weights.{suffix}")
    message = _error(_model(), path)
    assert not target.exists()
    assert str(path) in message
    assert "posix.mkdir" in message


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_arrays_and_containers_load(saved, protocol):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = {
        "array": array,
        "fortran": np.asfortranarray(array),
        "bytes": np.array([b"ab", b"c"]),
        "scalar": np.float64(1.5),
        "ordered": OrderedDict(a={1, 2}, b=(b"\xff", None, True)),
    }
    with open(saved(value, "data.pkl", protocol), "rb") as stream:
        loaded = load_pickle(stream)
    assert loaded["ordered"] == value["ordered"]
    assert loaded["scalar"] == 1.5
    for name in ("array", "fortran", "bytes"):
        np.testing.assert_array_equal(loaded[name], value[name])


def test_pickles_that_name_the_old_numpy_and_python_2_text_load():
    new = pickle.dumps({"w": np.arange(3.0)}, protocol=2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new
    # a Python 2 str: opcode U, one byte of length
    loaded = load_pickle(io.BytesIO(old.replace(b"X\x01\x00\x00\x00w", b"U\x02\xe9w")))
    np.testing.assert_array_equal(loaded["éw"], [0, 1, 2])


def _resnet() -> nn.Module:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 4
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    return nn.ModuleDict({"backbone": build_resnet_backbone(cfg, ShapeSpec(channels=3))})


def test_a_detectron2_zoo_pickle_loads_by_its_matching_heuristics(saved):
    model, rng = _resnet(), np.random.default_rng(0)
    weights = {
        name.removeprefix("backbone."): rng.random(value.shape, dtype=np.float32)
        for name, value in model.state_dict().items()
    }
    data = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
    _load(model, saved(data, "R-50.pkl"))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, weights[name.removeprefix("backbone.")], err_msg=name)


@pytest.mark.parametrize("wrap", [lambda blobs: blobs, lambda blobs: {"blobs": blobs}])
def test_a_caffe2_pickle_loads_by_its_names(saved, wrap):
    model, rng = _resnet(), np.random.default_rng(0)
    stem = rng.random((4, 3, 7, 7), dtype=np.float32)
    branch = rng.random((8, 4, 1, 1), dtype=np.float32)
    blobs = {"conv1_w": stem, "res2_0_branch1_w": branch, "conv1_w_momentum": stem * 0, "lr": 0.1}
    _load(model, saved(wrap(blobs), "R-50.pkl"), strict=False)
    state = model.state_dict()
    np.testing.assert_array_equal(state["backbone.stem.conv1.weight"], stem)
    np.testing.assert_array_equal(state["backbone.res2.0.shortcut.weight"], branch)


def test_weights_for_evaluation_must_match(saved):
    state = _model().state_dict()
    del state["0.bias"], state["2.bias"]
    state["2.weight"] = torch.zeros(3, 4)
    state["1.weight"] = torch.zeros(5)
    path = saved(state)
    message = _error(_model(), path, strict=True)
    assert "w.pth" in message
    assert "of 9 parameters and buffers 4 are missing or of another shape" in message
    assert "0.bias: missing; 1.weight: (5,) in the file, (4,) in the model" in message
    assert "2.bias: missing; ..." in message
    assert "2.weight" not in message
    _load(_model(), path, strict=False)  # as a start, the rest is fine


def test_batch_norm_counters_do_not_matter(saved):
    plain = _model()
    plain[1].running_var.fill_(0.01)
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(_model())
    _load(frozen, saved(plain.state_dict()))
    assert torch.equal(frozen[1].running_var, plain[1].running_var)
    again = _model()
    _load(again, saved(frozen.state_dict()))
    assert torch.equal(again[1].running_var, plain[1].running_var)


def test_a_tensor_under_two_names_needs_to_be_there_once(saved):
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    state = model.state_dict()
    del state["b.weight"]
    _load(model, saved(state))


def test_what_is_no_file_of_weights_is_said_in_one_line(tmp_path, saved):
    half = saved(_model().state_dict(), "half.pth")
    half.write_bytes(half.read_bytes()[:1000])
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pkl").write_bytes(b"")
    for name, data in (("list.pth", [1, 2]), ("list.pkl", [1, 2]), ("number.pth", {"model": 3})):
        saved(data, name)
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


def test_nothing_to_load():
    assert _load(_model(), "", strict=False) == {}
    assert _load(nn.Identity(), "") == {}
    assert "MODEL.WEIGHTS: found nothing" in _error(_model(), "", strict=True)


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
    (tmp_path / "model_final.pth").unlink()
    with pytest.raises(ConfigError, match=r"--resume: .*model_final\.pth is not there.*leave out"):
        checkpointer.resume_or_load("", resume=True)


def test_processes_other_than_the_main_one_saves_nothing(tmp_path):
    WsisCheckpointer(_model(), str(tmp_path), save_to_disk=False).save("a")
    assert not list(tmp_path.iterdir())
