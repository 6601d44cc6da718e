"""BoxCaseg's configs: published values, and that their models build."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from tests.config_files import changes, data_of, load, names
from wsis.config import flatten, get_cfg
from wsis.config.params import read
from wsis.data.builtin_paths import BUILTIN
from wsis.engine.solver import build_optimizer, build_poly_schedule
from wsis.methods.boxcaseg.config import BoxCasegParams

TEACHERS = names("BoxCaseg/boxcaseg_*.yaml")
STUDENTS = names("BoxCaseg/mask_rcnn_*.yaml")


@pytest.mark.parametrize("name", TEACHERS)
def test_values_are_in_range(name):
    cfg = load(name)
    read(cfg, BoxCasegParams)
    assert cfg.MODEL.META_ARCHITECTURE == "BoxCaseg"
    assert cfg.DATASETS.TRAIN[0].endswith("_boxes") and cfg.WSIS.SUPERVISION == "box"
    assert set(cfg.MODEL.BOXCASEG.SALIENT_DATASETS) <= set(BUILTIN)
    with torch.device("meta"):
        build_model(load(name, "MODEL.DEVICE", "meta"))


def test_published_training_on_voc():
    cfg = load("BoxCaseg/boxcaseg_hrnet_w48_voc.yaml")
    changed = changes(cfg.MODEL.BOXCASEG, get_cfg().MODEL.BOXCASEG)
    assert changed == {"SALIENT_DATASETS": ["duts_tr_single"]}
    epoch = int((25815 + 7991) / 16 / 2)
    assert cfg.SOLVER.IMS_PER_BATCH == 32 and 40 * epoch == cfg.SOLVER.MAX_ITER
    assert cfg.SOLVER.BASE_LR == 0.004 and cfg.MODEL.WEIGHTS == "timm://hrnet_w48"


def test_published_training_on_coco():
    cfg = load("BoxCaseg/boxcaseg_hrnet_w48_coco.yaml")
    changed = changes(cfg.MODEL.BOXCASEG, get_cfg().MODEL.BOXCASEG)
    del changed["SALIENT_DATASETS"]
    assert changed == {"FCN_RATIO": 0.6, "WEAK_SHARE": 0.6875, "OVERLAP_DROP": 0.75}
    epoch = int(7991 / 0.3125 / 32)
    assert 200 * epoch == cfg.SOLVER.MAX_ITER and cfg.SOLVER.BASE_LR == 0.008


@pytest.mark.parametrize(
    "name", ["BoxCaseg/boxcaseg_hrnet_w48_voc.yaml", "BoxCaseg/boxcaseg_hrnet_w16_shapes.yaml"]
)
def test_one_weight_decay_and_the_poly_schedule(name):
    cfg = load(name)
    small = load("BoxCaseg/boxcaseg_hrnet_w16_shapes.yaml", "MODEL.DEVICE", "meta")
    with torch.device("meta"):
        model = build_model(small)
    optimizer = build_optimizer(cfg, model)
    groups = optimizer.param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    rates = {(g["lr"], g["weight_decay"], g["momentum"], g["nesterov"]) for g in groups}
    assert rates == {(cfg.SOLVER.BASE_LR, 1e-4, 0.9, False)}
    schedule = build_poly_schedule(cfg, optimizer)
    last = cfg.SOLVER.MAX_ITER
    for schedule.last_epoch in (0, 1, last // 2, last - 1):
        expected = cfg.SOLVER.BASE_LR * (1 - schedule.last_epoch / last) ** 0.9
        assert schedule.get_lr()[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_heeds_the_confidence(name):
    cfg = load(name)
    assert cfg.MODEL.ROI_MASK_HEAD.SCORE_MODE == "threshold"
    teacher = next(each for each in TEACHERS if data_of(each) == data_of(name))
    legacy = load(teacher).MODEL.BOXCASEG.CONFIDENCE == "legacy"
    assert (cfg.MODEL.ROI_MASK_HEAD.SCORE_THRESHOLD == 0.95) == legacy


def test_the_published_student():
    cfg = load("BoxCaseg/mask_rcnn_R_101_FPN_voc.yaml")
    published = {
        "SOLVER": {
            **{"IMS_PER_BATCH": 6, "BASE_LR": 0.0075, "MOMENTUM": 0.9, "GAMMA": 0.1},
            **{"STEPS": (15000,), "MAX_ITER": 22500, "LR_SCHEDULER_NAME": "WarmupMultiStepLR"},
            **{"BIAS_LR_FACTOR": 2.0, "WEIGHT_DECAY": 1e-4, "WEIGHT_DECAY_BIAS": 0.0},
            **{"WARMUP_ITERS": 500, "WARMUP_METHOD": "linear", "NESTEROV": False},
        },
        "INPUT": {
            **{"MIN_SIZE_TRAIN": (800,), "MAX_SIZE_TRAIN": 1333, "RANDOM_FLIP": "horizontal"},
            **{"MIN_SIZE_TEST": 800, "MAX_SIZE_TEST": 1333, "FORMAT": "BGR"},
            "MASK_FORMAT": "bitmask",
        },
        "MODEL": {
            **{"WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-101.pkl", "MASK_ON": True},
            **{"PIXEL_MEAN": [102.9801, 115.9465, 122.7717], "PIXEL_STD": [1.0, 1.0, 1.0]},
        },
        "MODEL.BACKBONE": {"FREEZE_AT": 2},
        "MODEL.RESNETS": {"DEPTH": 101, "STRIDE_IN_1X1": True, "NORM": "FrozenBN"},
        "MODEL.RPN": {
            **{"PRE_NMS_TOPK_TRAIN": 2000, "PRE_NMS_TOPK_TEST": 1000, "POST_NMS_TOPK_TEST": 1000},
            "NMS_THRESH": 0.7,
        },
        "MODEL.ROI_HEADS": {
            **{"BATCH_SIZE_PER_IMAGE": 512, "POSITIVE_FRACTION": 0.25, "IOU_THRESHOLDS": [0.5]},
            **{"SCORE_THRESH_TEST": 0.05, "NMS_THRESH_TEST": 0.5},
        },
        "MODEL.ROI_BOX_HEAD": {"POOLER_RESOLUTION": 7, "POOLER_SAMPLING_RATIO": 2},
        "MODEL.ROI_MASK_HEAD": {"POOLER_RESOLUTION": 14, "POOLER_SAMPLING_RATIO": 2},
        "TEST": {"DETECTIONS_PER_IMAGE": 100},
    }
    values = flatten(cfg)
    expected = {f"{node}.{key}": v for node, keys in published.items() for key, v in keys.items()}
    assert {key: values[key] for key in expected} == expected
    assert pytest.approx(1 / 3, abs=1e-4) == cfg.SOLVER.WARMUP_FACTOR
