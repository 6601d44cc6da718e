"""Stage 3 from label folders to a table, as a user runs it: both tools' main parts, tiny."""

import json
from functools import partial
from importlib.util import find_spec

import pytest
import yaml

from tests.generating import edited
from tests.methods.bana.tiny_segmentor import data_entry, label_entry, make_cfg, write_label_pair

PROTOCOLS = ["single", "multi"]
if find_spec("pydensecrf") is not None:
    PROTOCOLS += ["single_crf", "multi_crf"]


@pytest.fixture
def train_net(tmp_path, tool):
    """``train_net(words...)``: how the tool ended on the tiny VGG and the tiny labels, with true masks to test on."""
    write_label_pair(tmp_path)
    keys = {"SOLVER.IMS_PER_BATCH": 4, "SOLVER.MAX_ITER": 6, "SOLVER.BASE_LR": 0.02, "SEED": 1}
    keys |= {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 0, "INPUT.SCALED_CROP.SCALE_RANGE": [0.8, 1.2]}
    keys |= {"DATASETS.CUSTOM_SEM_SEG": [label_entry("seg_pairs", tmp_path)]}
    keys |= {"DATASETS.CUSTOM": [data_entry("seg_true", tmp_path)]}
    keys |= {"DATASETS.TRAIN": ("seg_pairs",), "DATASETS.TEST": ("seg_true",)}
    cfg = make_cfg(**keys, PROXY__NUM_WORKERS=0, OUTPUT_DIR=str(tmp_path / "out"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(cfg.dump())))
    return partial(tool, "train_net", "--config-file", config)


def test_from_label_folders_to_four_numbers(tmp_path, train_net):
    def results(folder):
        return json.loads((folder / "inference" / "results.json").read_text())["seg_true"]

    status, _, error = train_net()
    assert status == 0, error
    out, again = tmp_path / "out", tmp_path / "again"
    trained = results(out)
    assert set(trained) == {"sem_seg_single"}
    metrics = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert {"loss_ce", "loss_wce", "total_loss", "lr"} <= set().union(*metrics)

    words = ("MODEL.WEIGHTS", out / "model_final.pth", "OUTPUT_DIR", again)
    status, _, error = train_net("--eval-only", *words, "MODEL.SEGMENTOR.PROTOCOLS", PROTOCOLS)
    assert status == 0, error
    found = results(again)
    assert set(found) == {f"sem_seg_{name}" for name in PROTOCOLS}
    assert found["sem_seg_single"] == trained["sem_seg_single"]
    for scores in found.values():
        assert {"mIoU", "pACC", "IoU-background", "IoU-tall"} <= set(scores)
    log = (again / "log.txt").read_text()
    assert "sem_seg_multi" in log and "mean acc." in log


def test_mistakes_are_told_before_anything_is_written(tmp_path, train_net):
    (tmp_path / "labels" / "y_ret" / "3.png").unlink()
    status, _, error = train_net()
    assert status == 2 and error.count("\n") == 1 and "3.png" in error
    assert not (tmp_path / "out").exists()
    with edited(tmp_path / "data") as document:
        for annotation in document["annotations"]:
            del annotation["segmentation"]
    status, _, error = train_net("DATASETS.TRAIN", "('seg_true',)")
    assert status == 2 and "'seg_true' has no label 'y_crf'" in error
    assert not (tmp_path / "out").exists()
