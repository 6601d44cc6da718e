"""BBAM's configs: what they change of the detector and the student, and that their models build."""

from __future__ import annotations

import re

import pytest
from detectron2.modeling import build_model

from tests.config_files import changes, data_of, folder_of, load, names
from tests.methods.bbam.tiny_detector import needs_crf
from wsis.config import flatten, get_cfg
from wsis.config.params import read
from wsis.methods.bbam import BBAM
from wsis.methods.bbam.config import BBAMParams
from wsis.methods.bbam.detector import OneStageDetector, TwoStageDetector
from wsis.modeling.pair_mask_head import PairMaskHead


def detector_of(name):
    """The config of the detector that a teacher explains."""
    folder = "quickstart" if "_quickstart" in name else folder_of(name)
    backbone, kind = re.search(r"(R_\d+_FPN)_[a-z]+(_cpu)?", name).groups()
    return load(f"{folder}/faster_rcnn_{backbone}_{data_of(name)}{kind or ''}.yaml")


def small(cfg):
    """On the CPU, with two classes."""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = 2
    return cfg


@pytest.mark.parametrize("name", names("BBAM/bbam_R_*.yaml"))
def test_a_teacher_is_its_detector_explained(name):
    cfg = load(name)
    read(cfg, BBAMParams)
    detector = detector_of(name)
    kinds = {
        key for key in changes(cfg, detector) if not key.startswith(("SOLVER.", "MODEL.BBAM."))
    }
    kinds -= {"INPUT.MIN_SIZE_TRAIN"} if "coco" in name else set()
    if "original" in name:
        kinds -= {f"MODEL.ROI_BOX_HEAD.POOLER_{key}" for key in ("TYPE", "SAMPLING_RATIO")}
        kinds -= {"MODEL.PIXEL_MEAN"}
    assert kinds == {"MODEL.META_ARCHITECTURE", "DATASETS.TEST"}
    assert cfg.MODEL.WEIGHTS == detector.MODEL.WEIGHTS
    assert len(cfg.DATASETS.TEST) == 0


@pytest.mark.parametrize("name", ["bbam_R_101_FPN_voc.yaml", "bbam_R_50_FPN_coco.yaml"])
def test_published_constants_are_the_defaults(name):
    cfg = load(f"BBAM/{name}")
    assert flatten(cfg.MODEL.BBAM) == flatten(get_cfg().MODEL.BBAM)


@needs_crf
@pytest.mark.parametrize("name", ["bbam_R_18_FPN_shapes.yaml", "bbam_retinanet_R_101_FPN_voc.yaml"])
def test_a_teacher_is_built(name):
    model = build_model(small(load(f"BBAM/{name}")))
    assert isinstance(model, BBAM)
    kind = OneStageDetector if "retinanet" in name else TwoStageDetector
    assert type(model.view) is kind


def test_a_student_is_built():
    model = build_model(small(load("BBAM/mask_rcnn_R_18_FPN_shapes.yaml")))
    assert isinstance(model.roi_heads.mask_head, PairMaskHead)
