"""Training and generation in one run: weights, labels, masks; and the same bytes with worker processes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng
from PIL import Image

from tests.masks import needs_crf
from tests.methods.bana.tiny_classifier import make_cfg
from tests.methods.bana.tiny_segmentor import RESNET, data_entry
from tests.tiny import write_dataset
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisCheckpointer, WsisTrainer
from wsis.engine.generation import generate_proxy_masks
from wsis.structures.rle import decode_mask

pytestmark = needs_crf


def train(folder, name, **keys):
    keys |= {"DATASETS.CUSTOM": [data_entry("tiny", folder)], "DATASETS.TRAIN": ("tiny",)}
    cfg = make_cfg(**keys, OUTPUT_DIR=str(folder / name), PROXY__SEM_SEG=True)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True)
    seed_all_rng(3)
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.exit_status == 0
    return cfg


def contents(folder):
    files = sorted(path for path in folder.rglob("*.*") if path.suffix in (".png", ".json"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if "inference" not in p.parts}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bana")
    document = write_dataset(folder / "data", number=6, empty=1)
    keys = {"SOLVER.MAX_ITER": 120, "SOLVER.IMS_PER_BATCH": 4, "PROXY.GENERATE_AFTER_TRAIN": True}
    return folder, train(folder, "out", **keys), document


def test_a_run_leaves_masks_labels_and_a_manifest(trained):
    folder, _, document = trained
    made, labels = contents(folder / "out"), ["y_crf", "y_ret", "intersection"]
    names = {f"pseudo_labels/tiny/{n}/{i}.png" for n in labels for i in range(1, 7)}
    assert names | {"pseudo_labels/tiny/manifest.json", "proxy/tiny.json"} <= set(made)
    manifest = json.loads(made["pseudo_labels/tiny/manifest.json"])
    assert manifest["classes"] == ["background", "wide", "tall"]
    assert manifest["labels"] == labels
    empty = np.asarray(Image.open(folder / "out/pseudo_labels/tiny/y_crf/6.png"))
    assert not empty.any()
    proxy, true = json.loads(made["proxy/tiny.json"])["annotations"], document["annotations"]
    assert [a["id"] for a in proxy] == [a["id"] for a in true]
    assert {a["status"] for a in proxy} == {"ok"}
    overlap = []
    for pair in zip(proxy, true, strict=True):
        found, expected = (decode_mask(a["segmentation"]).astype(bool) for a in pair)
        overlap.append((found & expected).sum() / (found | expected).sum())
    assert np.mean(overlap) > 0.6


def test_workers_make_the_same_bytes(trained, tmp_path):
    folder, cfg, _ = trained
    cfg, outputs = cfg.clone(), []
    cfg.MODEL.WEIGHTS = str(folder / "out" / "model_final.pth")
    for workers in (0, 2):
        cfg.OUTPUT_DIR, cfg.PROXY.NUM_WORKERS = str(tmp_path / str(workers)), workers
        model = build_model(cfg)
        WsisCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS)
        generate_proxy_masks(cfg, model)
        outputs.append(contents(tmp_path / str(workers)))
    assert outputs[0] == outputs[1]


def test_a_resnet_trains_and_keeps_its_frozen_norms(trained):
    train(trained[0], "resnet", **RESNET)
    weights = torch.load(trained[0] / "resnet" / "model_final.pth", weights_only=True)["model"]
    assert weights["classifier.weight"].shape == (3, 64, 1, 1)
    assert (weights["backbone.res5.0.conv1.norm.running_mean"] == 0).all()
