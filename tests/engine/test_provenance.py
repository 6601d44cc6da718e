from __future__ import annotations

import hashlib
import json
from functools import partial

import pytest
from detectron2.modeling import build_model

from tests.noise import make_cfg, write_data
from wsis.data.registration import get_source
from wsis.engine.provenance import differences, provenance, versions
from wsis.errors import ConfigError
from wsis.modeling.pretrained import weights_sha256

FILLED = {"MODEL__META_ARCHITECTURE": "FilledBox", "MODEL__WEIGHTS": ""}


def made_with(cfg, weights=None, teacher=None):
    source = get_source("noise", bad_box="skip")
    return provenance(cfg, teacher or build_model(cfg), source, weights)


@pytest.fixture
def config(tmp_path):
    """``config(**keys)`` of a teacher for the dataset in ``tmp_path``."""
    write_data(tmp_path, images=2)
    return partial(make_cfg, tmp_path, tmp_path / "out")


def test_holds_what_bears_on_the_masks_and_nothing_of_this_machine(config, tmp_path):
    found = made_with(config(MODEL__PIXEL_MEAN=[1.0, 2.0, 3.0]), "ab")
    assert found["method"] == "NoiseTeacher"
    assert found["device"] == "cpu"
    assert found["weights_sha256"] == "ab"
    digest = hashlib.sha256((tmp_path / "boxes.json").read_bytes()).hexdigest()
    assert found["source_sha256"] == digest
    assert found["config"]["MODEL.PIXEL_MEAN"] == [1.0, 2.0, 3.0]
    assert set(found["config"]) == {
        *("DATASETS.BAD_BOX", "DATASETS.CLASS_AGNOSTIC", "INPUT.FORMAT", "INPUT.HIGH_BIT_DEPTH"),
        *("MODEL.PIXEL_MEAN", "PROXY.KEEP_TRUE_MASKS", "SEED", "WSIS.NUM_THREADS"),
        "WSIS.SUPERVISION",
    }
    text = json.dumps(found)
    assert str(tmp_path) not in text
    assert json.loads(text) == found


@pytest.mark.parametrize(
    ("key", "value", "lines"),
    [
        ("OUTPUT_DIR", "elsewhere", []),
        ("PROXY__NUM_WORKERS", 3, []),
        ("VIS_PERIOD", 7, []),
        ("SOLVER__MAX_ITER", 7, []),
        ("MODEL__WEIGHTS", "other.pth", []),
        ("WSIS__NUM_THREADS", 2, ["WSIS.NUM_THREADS: 1 -> 2"]),
        ("PROXY__KEEP_TRUE_MASKS", True, ["PROXY.KEEP_TRUE_MASKS: false -> true"]),
        ("INPUT__HIGH_BIT_DEPTH", "shift", ['INPUT.HIGH_BIT_DEPTH: "minmax" -> "shift"']),
        ("SEED", 2, ["SEED: 1 -> 2"]),
    ],
)
def test_what_bears_on_the_masks_differs_by_name_and_nothing_else_does(config, key, value, lines):
    before, after = made_with(config()), made_with(config(**{key: value}))
    assert differences(before, after) == lines
    assert (before == after) == (not lines)


def test_prefixes_of_keys_end_at_a_dot(config):
    cfg = config(MODEL__META_ARCHITECTURE="GrabCut", MODEL__WEIGHTS="")
    assert "MODEL.GRABCUT.ITERATIONS" in made_with(cfg)["config"]
    teacher = build_model(cfg)
    teacher.result_keys = ("MODEL.GRAB", "MODEL")
    everything = made_with(cfg, teacher=teacher)["config"]
    assert "MODEL.WEIGHTS" not in everything
    assert "MODEL.DEVICE" not in everything
    assert "MODEL.BACKBONE.NAME" in everything
    teacher.result_keys = ("MODEL.GRAB",)
    assert "MODEL.GRABCUT.ITERATIONS" not in made_with(cfg, teacher=teacher)["config"]


def test_the_index_of_a_device_does_not_matter(config):
    cfg = config(**FILLED)
    teacher = build_model(cfg)
    cfg.MODEL.DEVICE = "cuda:1"
    assert made_with(cfg, teacher=teacher)["device"] == "cuda"


def test_a_package_is_named_only_by_the_teachers_that_use_it(config):
    teacher = build_model(config(**FILLED))
    assert {"wsis", "torch", "opencv"} <= set(versions(teacher))
    assert "pytest" not in versions(teacher)
    teacher.result_packages = ("_pytest", "no_such_module")
    assert versions(teacher)["pytest"] == pytest.__version__


def test_weights_are_known_by_their_bytes(config, tmp_path):
    cfg = config()
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    assert weights_sha256(cfg) == digest
    cfg.MODEL.WEIGHTS = ""
    assert weights_sha256(cfg) is None
    cfg.MODEL.WEIGHTS = str(tmp_path / "gone.pth")
    with pytest.raises(ConfigError, match=r"MODEL.WEIGHTS: .*gone.pth cannot be read"):
        weights_sha256(cfg)


def test_differences_name_what_is_new_and_what_is_gone():
    old = {"method": "A", "config": {"K.A": 1, "K.B": [1]}, "versions": {"torch": "1", "crf": "2"}}
    new = {"method": "A", "config": {"K.A": 1.5, "K.C": None}, "versions": {"torch": "3"}}
    assert differences(old, new) == [
        "K.A: 1 -> 1.5",
        "K.B: [1] -> absent",
        "K.C: absent -> null",
        'versions.crf: "2" -> absent',
        'versions.torch: "1" -> "3"',
    ]
    assert differences(new, new) == []
    assert len(differences(None, new)) == 1
