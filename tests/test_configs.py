"""Every config loads, names what exists, and stays short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
)

import wsis
from wsis.config import flatten, load_cfg
from wsis.data.builtin_paths import BUILTIN
from wsis.data.mapper import WsisDatasetMapper
from wsis.modeling.teacher import Teacher

ROOT = Path(wsis.__file__).parents[1] / "configs"
CONFIGS = {
    str(path.relative_to(ROOT)): path
    for path in sorted(ROOT.rglob("*.yaml"))
    if path.parent.name != "plans"
}
LEAVES = [name for name in CONFIGS if "Base-" not in name]
DETECTORS = [
    name for name in LEAVES if "rcnn" in name and not name.startswith(("BBAM/", "BoxCaseg/"))
]
STUDENTS = [name for name in DETECTORS if re.search(r"/mask_rcnn_R_\d+_FPN_[a-z]+\.yaml", name)]
STUDENTS = [name for name in STUDENTS if not name.startswith("quickstart/")]
REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_is_short_and_names_what_exists(name):
    assert len(CONFIGS[name].read_text().splitlines()) <= 20
    cfg = load_cfg(CONFIGS[name])
    flat = flatten(cfg)
    for key, registry in REGISTRIES.items():
        if flat[key]:
            registry.get(flat[key])
    known = DatasetCatalog.list()
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        assert dataset in known or (dataset.endswith("_proxy") and dataset in cfg.DATASETS.TRAIN)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in LEAVES])
def test_a_base_loads(name):
    load_cfg(CONFIGS[name])


def test_every_detector_and_student_is_there():
    folders = {"VOC": "voc", "COCO": "coco", "nuclei": "nuclei", "shapes": "shapes"}
    expected = {
        f"{folder}/{arch}_rcnn_R_{depth}_FPN_{data}.yaml"
        for folder, data in folders.items()
        for arch in ("faster", "mask")
        for depth in (18, 50, 101)
    }
    assert expected <= set(DETECTORS)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_name_says_what_it_is(name):
    arch, depth = re.search(r"/(\w+)_rcnn_R_(\d+)_FPN", name).groups()
    cfg = load_cfg(CONFIGS[name])
    assert int(depth) == cfg.MODEL.RESNETS.DEPTH
    assert (arch == "mask") == cfg.MODEL.MASK_ON
    supervision = {"faster": "box", "mask": "proxy"}[arch]
    assert ("mask" if "_full" in name else supervision) == cfg.WSIS.SUPERVISION
    assert (cfg.DATASETS.BAD_BOX == "skip") == name.startswith("COCO/")
    assert (cfg.MODEL.RESNETS.RES2_OUT_CHANNELS == 64) == (depth == "18")
    weights = "" if depth == "18" else f"detectron2://ImageNetPretrained/MSRA/R-{depth}.pkl"
    assert weights == cfg.MODEL.WEIGHTS
    assert WsisDatasetMapper(cfg, is_train=True).use_masks == cfg.MODEL.MASK_ON


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_differs_from_its_detector_in_masks_alone(name):
    student = flatten(load_cfg(CONFIGS[name]))
    detector = flatten(load_cfg(CONFIGS[name.replace("mask_", "faster_")]))
    changed = {key for key, value in student.items() if detector[key] != value}
    assert changed == {"MODEL.MASK_ON", "WSIS.SUPERVISION", "DATASETS.TRAIN"}


@pytest.mark.parametrize("name", STUDENTS)
def test_the_example_of_a_student_fits_it(name):
    cfg = load_cfg(CONFIGS[name])
    example = re.search(r'DATASETS\.CUSTOM "(.*)"', CONFIGS[name].read_text()).group(1)
    ((proxy, json_file, images),) = ast.literal_eval(example)
    assert (proxy,) == cfg.DATASETS.TRAIN
    source = Path(json_file).stem
    assert images == f"datasets/{BUILTIN[source][1]}"
    detector = load_cfg(CONFIGS[name.replace("mask_", "faster_")])
    assert (source,) == detector.DATASETS.TRAIN


@pytest.mark.parametrize("name", [name for name in LEAVES if name.startswith("baselines/")])
def test_a_baseline_is_a_teacher(name):
    teacher = META_ARCH_REGISTRY.get(load_cfg(CONFIGS[name]).MODEL.META_ARCHITECTURE)
    assert issubclass(teacher, Teacher)


def test_every_baseline_is_there():
    expected = {"filled_box", "ellipse", "grabcut", "box_crf"}
    assert {Path(name).stem for name in LEAVES if name.startswith("baselines/")} == expected


@pytest.mark.parametrize("name", list(CONFIGS))
def test_no_path_of_a_machine(name):
    paths = re.findall(r"[\"' ](/\S+|[A-Z]:\\\S+|~\S+)", CONFIGS[name].read_text())
    assert not paths
