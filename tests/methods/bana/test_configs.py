"""Both stages' configs: the published values, and networks that build."""

from itertools import product

import pytest
import torch
from detectron2.modeling import build_model

from tests.config_files import DATA, data_of, load, names
from wsis.config import flatten, get_cfg
from wsis.config.params import read
from wsis.data.builtin_paths import BUILTIN
from wsis.data.crop_transform import CropParams
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bana import BANAClassifier, BANASegmentor
from wsis.methods.bana.config import BANAParams
from wsis.methods.bana.nal import NoiseParams
from wsis.modeling.segmentor import SegmentorParams

CLASSIFIERS = names("BANA/bana_classifier_*.yaml")
SEGMENTORS = names("BANA/deeplab_*.yaml")
CLASSIFIER_VOC = "BANA/bana_classifier_vgg16_voc.yaml"
VGG_VOC, RESNET_VOC = "BANA/deeplab_v1_vgg16_voc.yaml", "BANA/deeplab_v2_R_101_voc.yaml"


def on_meta(kind, cfg):
    """A network of four classes without memory for its parameters."""
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 4
    with torch.device("meta"):
        return kind(cfg)


def check_values(cfg, **expected):
    """Of keys, ``__`` for the dots."""
    flat = flatten(cfg)
    found = {name: flat[name.replace("__", ".")] for name in expected}
    assert {n: list(v) if isinstance(v, tuple) else v for n, v in found.items()} == expected


@pytest.mark.parametrize(
    ("found", "networks", "data"),
    [
        (CLASSIFIERS, ("bana_classifier_vgg16", "bana_classifier_R_101"), DATA),
        (SEGMENTORS, ("deeplab_v1_vgg16", "deeplab_v2_R_101"), DATA - {"coco"}),
    ],
)
def test_both_networks_for_every_dataset(found, networks, data):
    assert set(found) == {
        f"BANA/{network}_{each}.yaml" for network, each in product(networks, data)
    }


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_config_is_of_a_classifier_on_boxes(name):
    cfg = load(name)
    check_values(
        cfg, MODEL__META_ARCHITECTURE="BANAClassifier", WSIS__SUPERVISION="box", PROXY__SEM_SEG=True
    )
    (dataset,) = cfg.DATASETS.TRAIN
    assert dataset in BUILTIN and dataset.startswith(data_of(name))
    vgg = cfg.MODEL.BACKBONE.NAME == "build_atrous_vgg16_backbone"
    assert vgg == ("vgg16" in name)
    assert cfg.SOLVER.WARMUP_ITERS == 0 or cfg.MODEL.WEIGHTS == ""
    assert all(step < cfg.SOLVER.MAX_ITER for step in cfg.SOLVER.STEPS)


@pytest.mark.parametrize("name", SEGMENTORS)
def test_the_network_is_what_the_name_says(name):
    cfg = load(name)
    read(cfg, BANAParams)
    model = on_meta(BANASegmentor, cfg)
    assert type(model.backbone).__name__ == ("AtrousVGG16" if "vgg16" in name else "ResNet")
    assert (cfg.MODEL.SEGMENTOR.HEAD == "aspp") == ("v2" in name)
    groups = model.parameter_groups(cfg)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    check_values(
        cfg,
        SOLVER__LR_SCHEDULER_NAME="WarmupPolyLR",
        INPUT__FORMAT="BGR",
        INPUT__MIN_SIZE_TEST=512 if name == "BANA/deeplab_v1_vgg16_nuclei.yaml" else 0,
        WSIS__SUPERVISION="box",
    )


def test_published_values_are_the_classifiers_defaults():
    cfg = load(CLASSIFIER_VOC)
    assert flatten(cfg.MODEL.BANA) == flatten(get_cfg().MODEL.BANA)
    assert flatten(cfg.MODEL.VGG) == flatten(get_cfg().MODEL.VGG)
    solver = {"BASE_LR": 1e-3, "MAX_ITER": 8000, "STEPS": [5000], "IMS_PER_BATCH": 20}
    solver |= {"WEIGHT_DECAY": 5e-4, "WEIGHT_DECAY_BIAS": 0.0}
    check_values(cfg.SOLVER, **solver)
    check_values(cfg, INPUT__FORMAT="BGR", INPUT__MIN_SIZE_TEST=0, SEED=13)
    check_values(cfg, MODEL__PIXEL_MEAN=[104.008, 116.669, 122.675])


def test_published_values_for_voc():
    for name in (VGG_VOC, RESNET_VOC):
        cfg = load(name)
        check_values(cfg.MODEL.BANA_SEG, LOSS="NAL", DAMPING=7.0, LAMBDA=0.1, DETACH_SIGMA=False)
        segmentor = {"TEMPERATURE": 20.0, "SCALES": [1.0, 0.5, 0.75, 1.5], "CLASSIFIER": "cosine"}
        check_values(cfg.MODEL.SEGMENTOR, **segmentor, LABELS=["y_crf", "y_ret"])
        check_values(cfg.INPUT.SCALED_CROP, SIZE=321, SCALE_RANGE=[0.5, 1.5])
        check_values(cfg, SOLVER__WEIGHT_DECAY=5e-4, SOLVER__MOMENTUM=0.9, SEED=13)
    solver = {"BASE_LR": 1e-3, "MAX_ITER": 23805, "IMS_PER_BATCH": 20, "WEIGHT_DECAY_BIAS": 0}
    check_values(load(VGG_VOC).SOLVER, **solver)
    check_values(load(VGG_VOC), MODEL__VGG__FC6_DILATION=12)
    solver = {"BASE_LR": 2.5e-4, "MAX_ITER": 20000, "IMS_PER_BATCH": 10, "WEIGHT_DECAY_BIAS": None}
    check_values(load(RESNET_VOC).SOLVER, **solver)
    check_values(load(RESNET_VOC).MODEL.RESNETS, NORM="FrozenBN", STRIDE_IN_1X1=True)
    check_values(load(RESNET_VOC), MODEL__SEGMENTOR__HEAD_RATES=[6, 12, 18, 24])
    crfs = [read(load(name), SegmentorParams).protocols.crf for name in (VGG_VOC, RESNET_VOC)]
    assert crfs == [DenseCRFParams(3, 3, 4, 121, 5, 10), DenseCRFParams(3, 1, 4, 67, 3, 10)]


@pytest.mark.parametrize("data", ["shapes", "nuclei"])
def test_a_small_one_is_built_and_starts_from_nothing(data):
    cfg = load(f"BANA/bana_classifier_vgg16_{data}.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "cpu", 4
    model = build_model(cfg)
    assert isinstance(model, BANAClassifier)
    assert sum(p.numel() for p in model.parameters()) < 2e6
    assert cfg.MODEL.WEIGHTS == "" and cfg.MODEL.BANA.LR_FACTORS == [1.0, 1.0, 1.0]
    assert cfg.SOLVER.IMS_PER_BATCH <= 8 and cfg.MODEL.BANA.CRF.BILATERAL_XY_STD == 20.0


def test_keys_become_the_constants_of_crops_and_losses():
    opts = ["INPUT.SCALED_CROP.SIZE", "65", "INPUT.SCALED_CROP.JITTER", "0.25"]
    assert read(load(CLASSIFIER_VOC, *opts), CropParams) == CropParams(65, (0.5, 1.5), 0.25)
    keys = {"DAMPING": 3.0, "LAMBDA": 0.4, "DETACH_SIGMA": True, "BOOTSTRAP": 0.8}
    keys |= {"BOOTSTRAP_HARD": True}
    opts = [word for name, v in keys.items() for word in (f"MODEL.BANA_SEG.{name}", str(v))]
    model = on_meta(BANASegmentor, load(VGG_VOC, *opts, "MODEL.SEGMENTOR.TEMPERATURE", "9.0"))
    assert model.noise == NoiseParams(9.0, 3.0, 0.4, True, 0.8, True)
    assert model.protocols.temperature == 9.0


@pytest.mark.parametrize("data", ["shapes", "nuclei", "voc"])
def test_stage_3_can_start_from_the_classifier(data):
    states = []
    for kind, name in ((BANAClassifier, "bana_classifier"), (BANASegmentor, "deeplab_v1")):
        cfg = load(f"BANA/{name}_vgg16_{data}.yaml")
        states.append({n: v.shape for n, v in on_meta(kind, cfg).state_dict().items()})
        states[-1]["pixels"] = (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT)
    assert states[0] == states[1]
