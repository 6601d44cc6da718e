"""Stage 3 from label folders to a table, as a user runs it: both tools' main parts, tiny."""

from __future__ import annotations

import json
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.methods.bana.tiny_segmentor import KEYS, custom, write_label_pair
from tests.tiny import loggers_as_before

__all__ = ["loggers_as_before"]

TOOL = Path(__file__).parents[3] / "tools" / "train_net.py"
PROTOCOLS = ["single", "multi"] + (
    ["single_crf", "multi_crf"] if find_spec("pydensecrf") is not None else []
)


@pytest.fixture
def train_net(monkeypatch, capsys):
    """``train_net(words...)``: runs the tool here; returns exit status and stderr."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOL), run_name="__main__")
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def config(tmp_path) -> Path:
    """``config.yaml`` of the tiny VGG on the tiny labels; evaluated against the true masks."""
    labels = write_label_pair(tmp_path)
    nested: dict = {"VERSION": 2, "SEED": 1, "OUTPUT_DIR": str(tmp_path / "out")}
    keys = {
        **KEYS,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 0,
        "INPUT.SCALED_CROP.SCALE_RANGE": [0.8, 1.2],
        "DATASETS.CUSTOM_SEM_SEG": [custom("seg_pairs", tmp_path, labels)],
        "DATASETS.CUSTOM": [
            ["seg_true", str(tmp_path / "data" / "boxes.json"), str(tmp_path / "data")]
        ],
        "DATASETS.TRAIN": ["seg_pairs"],
        "DATASETS.TEST": ["seg_true"],
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.MAX_ITER": 6,
        "SOLVER.BASE_LR": 0.02,
        "PROXY.NUM_WORKERS": 0,
    }
    for name, value in keys.items():
        node = nested
        *path, last = name.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(nested))
    return path


def test_from_label_folders_to_four_numbers(tmp_path, config, train_net):
    status, error = train_net("--config-file", config)
    assert status == 0, error
    out = tmp_path / "out"
    trained = json.loads((out / "inference" / "results.json").read_text())["seg_true"]
    assert set(trained) == {"sem_seg_single"}
    metrics = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert {"loss_ce", "loss_wce", "total_loss", "lr"} <= set().union(*metrics)

    words = ("MODEL.WEIGHTS", out / "model_final.pth", "OUTPUT_DIR", tmp_path / "again")
    protocols = ("MODEL.SEGMENTOR.PROTOCOLS", PROTOCOLS)
    status, error = train_net("--config-file", config, "--eval-only", *words, *protocols)
    assert status == 0, error
    again = json.loads((tmp_path / "again" / "inference" / "results.json").read_text())["seg_true"]
    assert set(again) == {f"sem_seg_{name}" for name in PROTOCOLS}
    assert again["sem_seg_single"] == trained["sem_seg_single"]
    for scores in again.values():
        assert {"mIoU", "pACC", "IoU-background", "IoU-tall"} <= set(scores)
    log = (tmp_path / "again" / "log.txt").read_text()
    assert "sem_seg_multi" in log and "mean acc." in log


def test_mistakes_are_told_before_anything_is_written(tmp_path, config, train_net):
    (tmp_path / "labels" / "y_ret" / "3.png").unlink()
    status, error = train_net("--config-file", config)
    assert status == 2 and error.count("\n") == 1 and "3.png" in error
    assert not (tmp_path / "out").exists()
    document = json.loads((tmp_path / "data" / "boxes.json").read_text())
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(document))
    status, error = train_net("--config-file", config, "DATASETS.TRAIN", "('seg_true',)")
    assert status == 2 and "'seg_true' has no label 'y_crf'" in error
    assert not (tmp_path / "out").exists()
