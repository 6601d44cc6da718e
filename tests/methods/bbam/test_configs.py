"""BBAM's configs: what they change of the detector and the student, and that their models build."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from detectron2.modeling import build_model

import wsis
from tests.methods.bbam.tiny_detector import needs_crf
from wsis.config import flatten, get_cfg, load_cfg
from wsis.config.params import read
from wsis.data.builtin_paths import BUILTIN
from wsis.methods.bbam import BBAM
from wsis.methods.bbam.config import BBAMParams
from wsis.methods.bbam.detector import OneStageDetector, TwoStageDetector
from wsis.modeling.pair_mask_head import PairMaskHead

ROOT = Path(wsis.__file__).parents[1] / "configs"
TEACHERS = sorted(path.name for path in (ROOT / "BBAM").glob("bbam_*.yaml"))
STUDENTS = sorted(path.name for path in (ROOT / "BBAM").glob("mask_rcnn_*.yaml"))
NAME = re.compile(
    r"(?:bbam|mask_rcnn)_(?:retinanet_)?(R_\d+_FPN)_([a-z]+)(_cpu|_quickstart)?(?:_original)?\.yaml"
)


def plain(name, arch):
    """The config of the same detector or student without BBAM."""
    backbone, data, kind = NAME.fullmatch(name).groups()
    folder = data.upper() if data in ("voc", "coco") else data
    if kind == "_quickstart":
        folder, kind = "quickstart", ""
    return load_cfg(ROOT / folder / f"{arch}_rcnn_{backbone}_{data}{kind or ''}.yaml")


def changes(cfg, other):
    ours, theirs = flatten(cfg), flatten(other)
    return {key for key in ours if ours[key] != theirs[key]}


def small(cfg):
    """On the CPU, with two classes."""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = 2
    return cfg


def test_every_dataset_has_a_teacher_and_a_student():
    for names in (TEACHERS, STUDENTS):
        data = {NAME.fullmatch(name)[2] for name in names}
        assert data == {"voc", "coco", "nuclei", "shapes"}


@pytest.mark.parametrize("name", [name for name in TEACHERS if "retinanet" not in name])
def test_a_teacher_is_its_detector_explained(name):
    cfg = load_cfg(ROOT / "BBAM" / name)
    read(cfg, BBAMParams)
    detector = plain(name, "faster")
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
    cfg = load_cfg(ROOT / "BBAM" / name)
    assert flatten(cfg.MODEL.BBAM) == flatten(get_cfg().MODEL.BBAM)


@needs_crf
@pytest.mark.parametrize("name", ["bbam_R_18_FPN_shapes.yaml", "bbam_retinanet_R_101_FPN_voc.yaml"])
def test_a_teacher_is_built(name):
    model = build_model(small(load_cfg(ROOT / "BBAM" / name)))
    assert isinstance(model, BBAM)
    kind = OneStageDetector if "retinanet" in name else TwoStageDetector
    assert type(model.view) is kind


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_has_the_pair_loss(name):
    cfg = load_cfg(ROOT / "BBAM" / name)
    changed = changes(cfg, plain(name, "mask"))
    if "voc" not in name:  # VOC's has its published schedule and sizes too
        assert changed == {"MODEL.ROI_MASK_HEAD.NAME"}
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "PairMaskHead"
    example = re.search(r'DATASETS\.CUSTOM "(.*)"', (ROOT / "BBAM" / name).read_text()).group(1)
    ((proxy, json_file, images),) = ast.literal_eval(example)
    assert (proxy,) == cfg.DATASETS.TRAIN
    assert images == f"datasets/{BUILTIN[Path(json_file).stem][1]}"


def test_a_student_is_built():
    model = build_model(small(load_cfg(ROOT / "BBAM" / "mask_rcnn_R_18_FPN_shapes.yaml")))
    assert isinstance(model.roi_heads.mask_head, PairMaskHead)
