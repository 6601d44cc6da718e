"""BAS' configs: published values, and that their models build."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from tests.config_files import load, names
from wsis.config.params import read
from wsis.data.tag_loader import eval_transforms
from wsis.engine.solver import build_optimizer
from wsis.evaluation.localisation import LocalisationParams
from wsis.methods.bas.config import BASParams

PUBLISHED = {
    # alpha, beta, k, threshold
    "vgg16_cub": (0, 0.9, 80, 0.1),
    "mobilenet_v1_cub": (0.5, 1.9, 80, 0.1),
    "R_50_cub": (0.5, 1.5, 0, 0.1),
    "inception_v3_cub": (0.5, 1, 0, 0.1),
    "vgg16_ilsvrc": (0.05, 1, 1, 0.45),
    "mobilenet_v1_ilsvrc": (0.5, 1.5, 1, 0.5),
    "R_50_ilsvrc": (1, 2, 1, 0.25),
    "inception_v3_ilsvrc": (1, 2.5, 1, 0.25),
    "R_50_openimages30k": (0.5, 1.5, 1, 0.25),
}
TRAINING = {"cub": (5994, 32, 120, [80]), "ilsvrc": (1281167, 128, 9, [3, 6])}
TRAINING["openimages30k"] = (29819, 64, 50, [20, 40])
BUILT = [*names("BAS/bas*.yaml"), *names("photos/bas*.yaml")]
CLASSES = {"cub": 200, "ilsvrc": 1000, "openimages30k": 100, "voc": 20}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_training_for_localisation(name):
    cfg = load(f"BAS/bas_{name}.yaml")
    data = name.rpartition("_")[2]
    params, solver = read(cfg, BASParams), cfg.SOLVER
    threshold = read(cfg, LocalisationParams).threshold
    found = params.guidance_weight, params.area_weight, params.top_k, threshold
    assert found == PUBLISHED[name]
    assert params.outlier == (0 if "vgg16" in name else 1) and params.head_channels == 1024
    images, batch, epochs, steps = TRAINING[data]
    batch *= 1 + (name == "vgg16_ilsvrc")
    epoch = -(-images // batch)
    assert batch == solver.IMS_PER_BATCH
    assert (solver.MAX_ITER, list(solver.STEPS)) == (epochs * epoch, [s * epoch for s in steps])
    assert (solver.BASE_LR, solver.MOMENTUM, solver.WEIGHT_DECAY) == (1e-3, 0.9, 5e-4)
    assert solver.NESTEROV and cfg.MODEL.TAPPED.NETWORK.startswith(name[:3].replace("R_5", "res"))
    assert len(eval_transforms(cfg)) == (1 if data == "openimages30k" else 2)


def test_every_config_is_known():
    assert set(names("BAS/bas_*.yaml")) == {f"BAS/bas_{n}.yaml" for n in (*PUBLISHED, "R_50_voc")}


@pytest.mark.parametrize("name", BUILT)
def test_models_build(name):
    classes = CLASSES.get(name.removesuffix(".yaml").rpartition("_")[2], 5)
    cfg = load(name, "MODEL.ROI_HEADS.NUM_CLASSES", str(classes), "MODEL.DEVICE", "cpu")
    model = build_model(cfg)
    assert model.network.generator.out_channels == classes
    expected = "box" if "basbox" in name else "image"
    assert expected == cfg.WSIS.SUPERVISION


def test_published_training_of_semantic_seeds():
    cfg = load("BAS/bas_R_50_voc.yaml", "MODEL.ROI_HEADS.NUM_CLASSES", "20", "MODEL.DEVICE", "cpu")
    model, solver = build_model(cfg), cfg.SOLVER
    assert solver.MAX_ITER == 10 * (10582 // 16) and solver.POLY_LR_HORIZON == 10 * 10582 // 4 - 5
    rates = {}
    for group in build_optimizer(cfg, model).param_groups:
        assert (group["momentum"], group["weight_decay"]) == (1e-4, 1e-4)
        for parameter in group["params"]:
            rates[parameter] = group["lr"]
    for name, parameter in model.named_parameters():
        rate = 0.05 if name.startswith(("network.head", "network.generator")) else 0.005
        assert rates[parameter] == pytest.approx(0 if name.endswith("bias") else rate), name
    maps = model.eval().network.backbone(torch.zeros(1, 3, 64, 96))
    assert {key: tuple(m.shape[1:]) for key, m in maps.items()} == {
        "tap": (1024, 4, 6),
        "tail": (2048, 4, 6),
    }
