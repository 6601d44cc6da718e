"""The classifier's configs: what they say, and that their models build."""

from __future__ import annotations

import pytest
from detectron2.modeling import build_model

from tests.config_files import DATA, data_of, load, names
from wsis.config import flatten, get_cfg
from wsis.config.params import read
from wsis.data.builtin_paths import BUILTIN
from wsis.data.crop_transform import CropParams
from wsis.methods.bana import BANAClassifier

NAMES = names("BANA/bana_classifier_*.yaml")


def test_every_dataset_has_both_backbones():
    expected = {
        f"BANA/bana_classifier_{backbone}_{data}.yaml"
        for backbone in ("vgg16", "R_101")
        for data in DATA
    }
    assert set(NAMES) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_of_a_classifier_on_boxes(name):
    cfg = load(name)
    assert cfg.MODEL.META_ARCHITECTURE == "BANAClassifier"
    assert cfg.WSIS.SUPERVISION == "box" and cfg.PROXY.SEM_SEG
    (dataset,) = cfg.DATASETS.TRAIN
    assert dataset in BUILTIN and dataset.startswith(data_of(name))
    vgg = cfg.MODEL.BACKBONE.NAME == "build_atrous_vgg16_backbone"
    assert vgg == ("vgg16" in name)
    assert cfg.SOLVER.WARMUP_ITERS == 0 or cfg.MODEL.WEIGHTS == ""
    assert all(step < cfg.SOLVER.MAX_ITER for step in cfg.SOLVER.STEPS)


def test_published_values_are_the_defaults():
    cfg = load("BANA/bana_classifier_vgg16_voc.yaml")
    assert flatten(cfg.MODEL.BANA) == flatten(get_cfg().MODEL.BANA)
    assert flatten(cfg.MODEL.VGG) == flatten(get_cfg().MODEL.VGG)
    solver = cfg.SOLVER
    assert (solver.BASE_LR, solver.MAX_ITER, tuple(solver.STEPS)) == (1e-3, 8000, (5000,))
    assert (solver.IMS_PER_BATCH, solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_BIAS) == (20, 5e-4, 0.0)
    assert cfg.MODEL.PIXEL_MEAN == [104.008, 116.669, 122.675] and cfg.INPUT.FORMAT == "BGR"
    assert cfg.INPUT.MIN_SIZE_TEST == 0 and cfg.SEED == 13


@pytest.mark.parametrize("data", ["shapes", "nuclei"])
def test_a_small_one_is_built_and_starts_from_nothing(data):
    cfg = load(f"BANA/bana_classifier_vgg16_{data}.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "cpu", 4
    model = build_model(cfg)
    assert isinstance(model, BANAClassifier)
    assert sum(p.numel() for p in model.parameters()) < 2e6
    assert cfg.MODEL.WEIGHTS == "" and cfg.MODEL.BANA.LR_FACTORS == [1.0, 1.0, 1.0]
    assert cfg.SOLVER.IMS_PER_BATCH <= 8 and cfg.MODEL.BANA.CRF.BILATERAL_XY_STD == 20.0


def test_crops_are_drawn_from_what_the_keys_say():
    opts = ["INPUT.SCALED_CROP.SIZE", "65", "INPUT.SCALED_CROP.JITTER", "0.25"]
    cfg = load("BANA/bana_classifier_vgg16_voc.yaml", *opts)
    assert read(cfg, CropParams) == CropParams(65, (0.5, 1.5), 0.25)
