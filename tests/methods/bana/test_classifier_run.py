"""Training and generation in one run: weights, labels, masks; and the same bytes with worker processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng
from PIL import Image

from tests.methods.bana.tiny_classifier import dataset_keys, make_cfg
from tests.methods.bbam.tiny_detector import needs_crf
from tests.tiny import loggers_as_before, write_dataset
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisCheckpointer, WsisTrainer
from wsis.engine.generation import generate_proxy_masks
from wsis.structures.rle import decode_mask

pytestmark = needs_crf

__all__ = ["loggers_as_before"]


def train(folder: Path, name: str, **keys):
    opts = dataset_keys(folder / "data", folder / name) | {"PROXY.SEM_SEG": True}
    opts |= {key.replace("__", "."): value for key, value in keys.items()}
    cfg = make_cfg(opts)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True)
    seed_all_rng(3)
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.exit_status == 0
    return cfg


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*.*") if path.suffix in (".png", ".json"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if "inference" not in p.parts}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bana")
    document = write_dataset(folder / "data", number=6, empty=1)
    keys = {"SOLVER__MAX_ITER": 120, "SOLVER__IMS_PER_BATCH": 4}
    cfg = train(folder, "out", PROXY__GENERATE_AFTER_TRAIN=True, **keys)
    return folder, cfg, document


def test_a_run_leaves_masks_labels_and_a_manifest(trained):
    folder, _, document = trained
    made = contents(folder / "out")
    names = {
        f"pseudo_labels/tiny/{n}/{i}.png"
        for n in ("y_crf", "y_ret", "intersection")
        for i in range(1, 7)
    }
    assert names | {"pseudo_labels/tiny/manifest.json", "proxy/tiny.json"} <= set(made)
    manifest = json.loads(made["pseudo_labels/tiny/manifest.json"])
    assert manifest["classes"] == ["background", "wide", "tall"]
    assert manifest["labels"] == ["y_crf", "y_ret", "intersection"]
    proxy = json.loads(made["proxy/tiny.json"])
    assert [a["id"] for a in proxy["annotations"]] == [a["id"] for a in document["annotations"]]
    assert {a["status"] for a in proxy["annotations"]} <= {"ok", "fallback"}
    empty = np.asarray(Image.open(folder / "out/pseudo_labels/tiny/y_crf/6.png"))
    assert not empty.any()


def test_the_masks_find_the_objects(trained):
    folder, _, document = trained
    proxy = json.loads((folder / "out" / "proxy" / "tiny.json").read_text())
    status = [a["status"] for a in proxy["annotations"]]
    assert set(status) == {"ok"}
    found = [decode_mask(a["segmentation"]).astype(bool) for a in proxy["annotations"]]
    true = [decode_mask(a["segmentation"]).astype(bool) for a in document["annotations"]]
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(found, true, strict=True)]
    assert np.mean(overlap) > 0.6


def test_workers_make_the_same_bytes(trained, tmp_path):
    folder, cfg, _ = trained
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = str(folder / "out" / "model_final.pth")
    outputs = []
    for workers in (0, 2):
        cfg.OUTPUT_DIR, cfg.PROXY.NUM_WORKERS = str(tmp_path / str(workers)), workers
        model = build_model(cfg)
        WsisCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS)
        generate_proxy_masks(cfg, model)
        outputs.append(contents(tmp_path / str(workers)))
    assert outputs[0] == outputs[1]


def test_a_resnet_trains_and_keeps_its_frozen_norms(trained):
    folder, _, _ = trained
    resnet = {
        "MODEL__BACKBONE__NAME": "build_atrous_resnet_backbone",
        "MODEL__BACKBONE__FREEZE_AT": 0,
        "MODEL__RESNETS__STEM_OUT_CHANNELS": 4,
        "MODEL__RESNETS__RES2_OUT_CHANNELS": 8,
        "MODEL__RESNETS__WIDTH_PER_GROUP": 4,
    }
    train(folder, "resnet", **resnet)
    weights = torch.load(folder / "resnet" / "model_final.pth", weights_only=True)["model"]
    assert weights["classifier.weight"].shape == (3, 64, 1, 1)
    assert (weights["backbone.res5.0.conv1.norm.running_mean"] == 0).all()
