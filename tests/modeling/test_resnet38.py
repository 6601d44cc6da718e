from __future__ import annotations

import json
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn

from wsis.config import get_cfg
from wsis.engine import WsisCheckpointer
from wsis.errors import ConfigError
from wsis.modeling.backbones.resnet38 import from_mxnet
from wsis.modeling.mxnet_params import DTYPES, LIST, V1, V2, V3, read_params

KEY_MAP = json.loads(
    (Path(__file__).parents[1] / "golden/data/icam/mxnet_key_map.json").read_text()
)


def make(*opts):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet38_backbone"
    cfg.MODEL.RESNET38.WIDTH = 1 / 16
    cfg.merge_from_list(list(opts))
    return build_backbone(cfg)


def array_bytes(array: np.ndarray, form: int = 0) -> bytes:
    """One array as MXNet's versions have written it; 0 = the oldest form."""
    axes = struct.pack(f"<{1 + array.ndim}I", array.ndim, *array.shape)
    if form:
        axes = struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
        axes = struct.pack("<I", form) + (b"" if form == V1 else bytes(4)) + axes
    kind = next(i for i, name in enumerate(DTYPES) if np.dtype(name) == array.dtype)
    return axes + struct.pack("<iii", 1, 0, kind) + array.tobytes()


def params_bytes(arrays: dict[str, np.ndarray], form: int = 0) -> bytes:
    parts = [struct.pack("<QQQ", LIST, 0, len(arrays))]
    parts += [array_bytes(array, form) for array in arrays.values()]
    parts.append(struct.pack("<Q", len(arrays)))
    parts += [struct.pack("<Q", len(name)) + name.encode() for name in arrays]
    return b"".join(parts)


def mxnet_weights(net) -> dict[str, np.ndarray]:
    """Random weights of a network under MXNet's names, and ImageNet's classifier."""
    state, random = net.state_dict(), np.random.default_rng(0)
    out = {n: random.random(state[ours].shape, dtype=np.float32) for n, ours in KEY_MAP.items()}
    return out | {"arg:linear1000_weight": np.ones((10, 4), dtype=np.float32)}


@pytest.mark.parametrize("form", [0, V1, V2, V3])
def test_every_form_of_the_file_is_read(form, tmp_path):
    path = tmp_path / "w.params"
    arrays = {f"arg:{i}": np.arange(6).reshape(2, 3).astype(kind) for i, kind in enumerate(DTYPES)}
    arrays["aux:none"] = np.zeros((0, 3), dtype=np.float32)
    path.write_bytes(params_bytes(arrays, form))
    read = read_params(path)
    assert list(read) == list(arrays)
    for found, expected in zip(read.values(), arrays.values(), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_weights_of_mxnet_load_into_a_model(tmp_path):
    net = make()
    weights = mxnet_weights(net)
    (tmp_path / "a.params").write_bytes(params_bytes(weights))
    model = nn.ModuleDict({"backbone": net, "head": nn.Conv2d(4, 2, 1)})
    WsisCheckpointer(model).load(str(tmp_path / "a.params"))
    state = net.state_dict()
    assert set(KEY_MAP.values()) == set(state) == set(from_mxnet(weights))
    for name, ours in KEY_MAP.items():
        np.testing.assert_array_equal(state[ours], weights[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data[: len(data) // 2],
            "not a complete file of weights; ValueError: cut off",
        ),
        (lambda data: data[:-1], "cut off: 17 bytes wanted"),
        (lambda data: data[:20], "cut off: 24 bytes wanted at byte 0, 20 are left"),
        (lambda data: b"x" * len(data), "not a list of arrays of MXNet"),
        (lambda data: data[:24] + b"\xff\xff\0\0" + data[28:], "not an array at byte 28"),
        (lambda data: data[:24] + struct.pack("<Ii", V2, 1) + data[32:], "a sparse array"),
        # 2^62 rows of 4 bytes are 2^64 bytes
        (
            lambda data: (
                data[:24] + struct.pack("<IiIq", V2, 0, 1, 1 << 62) + data[24:36] + bytes(99)
            ),
            "cut off|not an array",
        ),
    ],
)
def test_a_broken_file_is_one_line(change, message, tmp_path):
    path = tmp_path / "b.params"
    path.write_bytes(
        change(params_bytes({"arg:conv1a_weight": np.zeros((4, 3), dtype=np.float32)}))
    )
    with pytest.raises(ConfigError, match=message) as caught:
        WsisCheckpointer(make()).load(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_width_are_one_line(tmp_path):
    path = tmp_path / "wide.params"
    path.write_bytes(params_bytes(mxnet_weights(make())))
    with pytest.raises(ConfigError, match=r"bias: \(4,\) in the file, \(8,\) in the model"):
        WsisCheckpointer(make("MODEL.RESNET38.WIDTH", 1 / 8)).load(str(path))


@pytest.mark.parametrize("size", [(448, 56), (134, 17), (321, 41), (500, 63)])
@torch.no_grad()
def test_sizes_halve_as_published(size):
    net = make().eval()
    maps = net(torch.zeros(1, 3, size[0], 40))
    assert [(n, m.shape[1], m.shape[2]) for n, m in maps.items()] == [
        (name, shape.channels, size[1]) for name, shape in net.output_shape().items()
    ]
    assert min(m.min() for m in maps.values()) >= 0


def test_the_published_width_and_what_is_frozen():
    with torch.device("meta"):
        net = make("MODEL.RESNET38.WIDTH", 1.0, "MODEL.RESNET38.NORMS", "trained")
        frozen = make("MODEL.RESNET38.WIDTH", 1.0)
    assert {name: shape.channels for name, shape in net.output_shape().items()} == {
        "conv4": 512,
        "conv5": 1024,
        "conv6": 4096,
    }
    heads = 21 * 4096 + 64 * 512 + 128 * 1024 + 192 * 195
    assert sum(p.numel() for p in net.parameters()) + heads == 105_358_208
    trained = [n for n, p in frozen.named_parameters() if p.requires_grad]
    assert len(trained) == 35
    assert not any(name.startswith(("conv1a", "b2")) for name in trained)
    assert sum(frozen.get_parameter(n).numel() for n in trained) + heads == 104_489_536
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())


def test_norms_are_frozen_or_follow_the_batch_or_are_trained():
    image = torch.rand(2, 3, 32, 32)
    for norms, momentum in (("frozen", 0.1), ("statistics", 3e-4), ("trained", 0.1)):
        opts = "MODEL.RESNET38.NORMS", norms, "MODEL.RESNET38.NORM_MOMENTUM", momentum
        net = make(*opts, "MODEL.BACKBONE.FREEZE_AT", 0)
        before = net.bn7.running_mean.clone()
        net.train()(image)["conv6"].sum().backward()
        moved = net.bn7.running_mean - before
        trained = {n for n, p in net.named_parameters() if p.requires_grad}
        assert any("bn" in name for name in trained) == (norms == "trained")
        if norms == "frozen":
            assert isinstance(net.bn7, FrozenBatchNorm2d)
        else:
            assert net.bn7.momentum == momentum
        assert bool(moved.any()) == (norms != "frozen")


def test_mistakes_and_norms_without_weights(caplog):
    with pytest.raises(ConfigError, match="FREEZE_AT: found 8, expected 0 to 7"):
        make("MODEL.BACKBONE.FREEZE_AT", 8)
    with pytest.raises(ConfigError, match="NORMS: found 'BN', expected one of frozen, statistics"):
        make("MODEL.RESNET38.NORMS", "BN")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        make("MODEL.WEIGHTS", "w.params")
        make("MODEL.RESNET38.NORMS", "trained")
        assert not caplog.records
        make()
    assert "MODEL.RESNET38.NORMS: 'frozen' without MODEL.WEIGHTS" in caplog.text
