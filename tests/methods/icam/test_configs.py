"""The configs of the three stages: the published values, and networks that build."""

from itertools import product

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from tests.config_files import load, names
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.icam.config import AffinityNetParams, ICAMParams
from wsis.methods.icam.losses import LossParams

KINDS = {
    "icam_box": "ICAMBox",
    "icam": "ICAM",
    "affinity_net_box": "AffinityNetBox",
    "affinity_net": "AffinityNet",
    "deeplab_v1": "Segmentor",
}
STAGES = ("icam", "affinity_net", "deeplab_v1")
IMAGES = {"voc": 10582, "coco14": 82783, "coco17": 118287}
LEAVES = [
    n for n in [*names("ICAM/*.yaml"), *names("photos/*_lite0_photos.yaml")] if "Base" not in n
]
OURS = [n for n in LEAVES if n.split("/")[1].startswith(tuple(KINDS))]


def on_meta(name):
    cfg = load(name, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "6", "MODEL.ROI_HEADS.NUM_CLASSES", "5")
    with torch.device("meta"):
        return cfg, META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)


@pytest.mark.parametrize("name", OURS)
def test_a_stage_builds_and_learns_from_tags_or_labels(name):
    cfg, model = on_meta(name)
    stage = next(arch for prefix, arch in KINDS.items() if f"/{prefix}" in name)
    assert stage == cfg.MODEL.META_ARCHITECTURE
    supervision = {"ICAM": "image", "AffinityNet": "image"}.get(stage, "box")
    assert supervision == cfg.WSIS.SUPERVISION
    assert (cfg.MODEL.PIXEL_MEAN[0] == 127.5) == name.startswith("photos")
    groups = model.parameter_groups(cfg)
    assert (len({group["lr"] for group in groups}) == 1) == (cfg.MODEL.WEIGHTS == "")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if "resnet38" in name:
        assert bool(norms) == (stage == "Segmentor")
        assert all(m.momentum == 3e-4 and not m.weight.requires_grad for m in norms)
        frozen = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
        assert bool(frozen) == (stage != "Segmentor")


def test_every_stage_is_there_for_every_dataset():
    expected = {f"ICAM/{stage}_resnet38_{data}.yaml" for stage, data in product(STAGES, IMAGES)}
    assert expected <= set(OURS)


@pytest.mark.parametrize("data", IMAGES)
def test_the_published_schedules(data):
    for stage in ("icam", "affinity_net"):
        cfg = load(f"ICAM/{stage}_resnet38_{data}.yaml")
        solver = cfg.SOLVER
        assert 8 * (IMAGES[data] // 8) == solver.MAX_ITER
        assert (solver.BASE_LR, solver.MOMENTUM, solver.WEIGHT_DECAY) == (0.01, 5e-4, 5e-4)
        assert (solver.IMS_PER_BATCH, cfg.MODEL.BACKBONE.FREEZE_AT) == (8, 2)
    cfg = load(f"ICAM/deeplab_v1_resnet38_{data}.yaml")
    solver, segmentor = cfg.SOLVER, cfg.MODEL.SEGMENTOR
    assert (20_000 if data == "voc" else 200_000) == solver.MAX_ITER
    assert (solver.BASE_LR, solver.MOMENTUM, solver.IMS_PER_BATCH) == (0.001, 0.9, 10)
    assert segmentor.SIMILARITY == {"WEIGHT": 0.5, "MU": 2.5, "SIGMA": 5.0}
    crf = {
        f"{name}_STD": segmentor.CRF[f"{name}_STD"] for name in ("BILATERAL_XY", "BILATERAL_RGB")
    }
    assert crf == {"BILATERAL_XY_STD": 32, "BILATERAL_RGB_STD": 13}
    assert cfg.INPUT.SCALED_CROP == {
        "SIZE": 448,
        "SCALE_RANGE": [0.5, 1.5],
        "JITTER": 0.0,
        "HSV_SHIFT": 10,
    }


def test_defaults_are_the_published_values():
    params, walk = ICAMParams(), AffinityNetParams()
    assert params.losses == LossParams() and params.losses.similarity.weight == 0.5
    assert (params.losses.importance_weight, params.losses.samples) == (0.8, 100)
    assert (params.cam.channels, params.cam.second_scale) == ((64, 128), 0.3)
    assert params.cam.scales == (0.5, 1, 1.5, 2) and params.crf_alphas == (2, 4)
    assert params.crf == DenseCRFParams(3, 3, 10, 80, 13, iterations=10)
    assert (walk.radius, walk.alpha, walk.beta, walk.steps, walk.cell) == (5, 6, 8, 64, 8)
    assert walk.channels == (64, 128, 256)
