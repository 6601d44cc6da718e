"""A detector trained as BBAM: the same weights as alone, and its proxy masks at the end."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng

from tests.methods.bbam.tiny_detector import make_cfg, needs_crf
from tests.tiny import SIZE, loggers_as_before, write_dataset
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisCheckpointer, WsisTrainer

pytestmark = needs_crf

__all__ = ["loggers_as_before"]


def train(folder, name, *opts):
    """Trains two iterations; returns the weights by name."""
    data = folder / "data"
    cfg = make_cfg(
        "fpn",
        *("DATASETS.CUSTOM", [["tiny", str(data / "boxes.json"), str(data)]]),
        *("DATASETS.TRAIN", "('tiny',)", "DATASETS.TEST", "()", "SOLVER.MAX_ITER", 2, "SEED", 3),
        *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 0.001, "DATALOADER.NUM_WORKERS", 0),
        *("INPUT.MIN_SIZE_TRAIN", f"({SIZE},)", "OUTPUT_DIR", folder / name, "MODEL.BBAM.STEPS", 2),
        *opts,
    )
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True)
    seed_all_rng(3)
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.exit_status == 0
    return torch.load(folder / name / "model_final.pth", weights_only=True)["model"]


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "data")
    return tmp_path


def test_training_and_generation_in_one_run(folder):
    plain = train(folder, "plain")
    keys = ("MODEL.META_ARCHITECTURE", "BBAM", "PROXY.GENERATE_AFTER_TRAIN", True)
    bbam = train(folder, "bbam", *keys)
    assert list(bbam) == list(plain)
    for name, value in plain.items():
        assert torch.equal(bbam[name], value), name
    document = json.loads((folder / "bbam" / "proxy" / "tiny.json").read_text())
    assert document["info"]["wsis"]["method"] == "BBAM"
    assert [a["id"] for a in document["annotations"]] == [51, 52, 53, 54]
    assert {a["status"] for a in document["annotations"]} <= {"ok", "fallback", "empty"}


def test_modules_can_be_frozen(folder):
    keys = ("MODEL.META_ARCHITECTURE", "BBAM", "WSIS.FREEZE", "['backbone']")
    before = train(folder, "start", "MODEL.META_ARCHITECTURE", "BBAM")
    after = train(folder, "frozen", *keys, "MODEL.WEIGHTS", folder / "start" / "model_final.pth")
    for name, value in after.items():
        moved = not torch.equal(before[name], value)
        assert moved == name.startswith(("proposal_generator", "roi_heads")), name


def test_a_plain_checkpointer_takes_it(folder):
    train(folder, "bbam", "MODEL.META_ARCHITECTURE", "BBAM")
    plain = build_model(make_cfg("fpn"))
    WsisCheckpointer(plain, strict=True).load(str(folder / "bbam" / "model_final.pth"))
