"""A detector trained as BBAM: the same weights as alone, and its proxy masks at the end."""

import json
from pathlib import Path

import torch
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng

from tests.masks import needs_crf
from tests.methods.bbam.tiny_detector import make_cfg
from tests.tiny import SIZE, write_dataset
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisCheckpointer, WsisTrainer

pytestmark = needs_crf

BBAM = ("MODEL.META_ARCHITECTURE", "BBAM")


def train(folder, name, *opts):
    """Trains two iterations; returns the weights by name."""
    data = folder / "data"
    if not data.exists():
        write_dataset(data)
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


def test_training_and_generation_in_one_run_and_a_plain_checkpointer_takes_it(tmp_path):
    plain = train(tmp_path, "plain")
    bbam = train(tmp_path, "bbam", *BBAM, "PROXY.GENERATE_AFTER_TRAIN", True)
    assert list(bbam) == list(plain)
    for name, value in plain.items():
        assert torch.equal(bbam[name], value), name
    document = json.loads((tmp_path / "bbam" / "proxy" / "tiny.json").read_text())
    assert document["info"]["wsis"]["method"] == "BBAM"
    assert [a["id"] for a in document["annotations"]] == [51, 52, 53, 54]
    assert {a["status"] for a in document["annotations"]} <= {"ok", "fallback", "empty"}
    model = build_model(make_cfg("fpn"))
    WsisCheckpointer(model, strict=True).load(str(tmp_path / "bbam" / "model_final.pth"))


def test_modules_can_be_frozen(tmp_path):
    before = train(tmp_path, "start", *BBAM)
    keys = ("WSIS.FREEZE", "['backbone']", "MODEL.WEIGHTS", tmp_path / "start" / "model_final.pth")
    for name, value in train(tmp_path, "frozen", *BBAM, *keys).items():
        moved = not torch.equal(before[name], value)
        assert moved == name.startswith(("proposal_generator", "roi_heads")), name
