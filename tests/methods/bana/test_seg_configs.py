"""Stage 3's configs: the published values, and networks that build."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.config_files import load, names
from wsis.config.params import read
from wsis.engine.solver import build_poly_schedule
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bana import BANAClassifier, BANASegmentor
from wsis.methods.bana.config import BANAParams
from wsis.methods.bana.nal import NoiseParams
from wsis.modeling.segmentor import SegmentorParams

NAMES = names("BANA/deeplab_*.yaml")


def test_both_networks_for_every_dataset() -> None:
    expected = {
        f"BANA/deeplab_{network}_{data}.yaml"
        for network in ("v1_vgg16", "v2_R_101")
        for data in ("voc", "nuclei", "shapes")
    }
    assert set(NAMES) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_what_the_name_says(name) -> None:
    cfg = load(name)
    read(cfg, BANAParams)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 4
    with torch.device("meta"):
        model = BANASegmentor(cfg)
    assert type(model.backbone).__name__ == ("AtrousVGG16" if "vgg16" in name else "ResNet")
    assert (cfg.MODEL.SEGMENTOR.HEAD == "aspp") == ("v2" in name)
    groups = model.parameter_groups(cfg)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupPolyLR"
    assert cfg.INPUT.FORMAT == "BGR"
    enlarged = name == "BANA/deeplab_v1_vgg16_nuclei.yaml"
    assert (512 if enlarged else 0) == cfg.INPUT.MIN_SIZE_TEST
    assert cfg.WSIS.SUPERVISION == "box"


def test_published_values_for_voc() -> None:
    vgg = load("BANA/deeplab_v1_vgg16_voc.yaml")
    resnet = load("BANA/deeplab_v2_R_101_voc.yaml")
    for cfg in (vgg, resnet):
        keys, network = cfg.MODEL.BANA_SEG, cfg.MODEL.SEGMENTOR
        assert (keys.LOSS, keys.DAMPING, keys.LAMBDA, keys.DETACH_SIGMA) == ("NAL", 7.0, 0.1, False)
        assert (network.TEMPERATURE, network.SCALES) == (20.0, [1.0, 0.5, 0.75, 1.5])
        assert (network.CLASSIFIER, network.LABELS) == ("cosine", ["y_crf", "y_ret"])
        assert (cfg.INPUT.SCALED_CROP.SIZE, cfg.INPUT.SCALED_CROP.SCALE_RANGE) == (321, [0.5, 1.5])
        assert (cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.MOMENTUM, cfg.SEED) == (5e-4, 0.9, 13)
    assert (vgg.SOLVER.BASE_LR, vgg.SOLVER.MAX_ITER, vgg.SOLVER.IMS_PER_BATCH) == (1e-3, 23805, 20)
    assert (resnet.SOLVER.BASE_LR, resnet.SOLVER.MAX_ITER) == (2.5e-4, 20000)
    assert resnet.SOLVER.IMS_PER_BATCH == 10
    assert vgg.MODEL.VGG.FC6_DILATION == 12 and vgg.SOLVER.WEIGHT_DECAY_BIAS == 0
    assert resnet.MODEL.RESNETS.NORM == "FrozenBN" and resnet.SOLVER.WEIGHT_DECAY_BIAS is None
    assert resnet.MODEL.RESNETS.STRIDE_IN_1X1
    assert resnet.MODEL.SEGMENTOR.HEAD_RATES == [6, 12, 18, 24]
    crfs = [read(cfg, SegmentorParams).protocols.crf for cfg in (vgg, resnet)]
    assert crfs == [DenseCRFParams(3, 3, 4, 121, 5, 10), DenseCRFParams(3, 1, 4, 67, 3, 10)]


def test_the_losses_constants_are_those_of_the_keys() -> None:
    keys = {"DAMPING": 3.0, "LAMBDA": 0.4, "DETACH_SIGMA": True}
    keys |= {"BOOTSTRAP": 0.8, "BOOTSTRAP_HARD": True}
    opts = [word for name, v in keys.items() for word in (f"MODEL.BANA_SEG.{name}", str(v))]
    opts += ["MODEL.SEGMENTOR.TEMPERATURE", "9.0"]
    cfg = load("BANA/deeplab_v1_vgg16_voc.yaml", *opts)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 4
    with torch.device("meta"):
        model = BANASegmentor(cfg)
    assert model.noise == NoiseParams(9.0, 3.0, 0.4, True, 0.8, True)
    assert model.protocols.temperature == 9.0


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("BANA/deeplab_v1_vgg16_voc.yaml", {1: 1e-3, 1000: 9.6215e-4, 10000: 6.12435e-4}),
        ("BANA/deeplab_v2_R_101_voc.yaml", {1: 2.5e-4, 1000: 2.38733e-4, 10000: 1.33984e-4}),
    ],
)
def test_published_learning_rates(name, rates) -> None:
    cfg = load(name)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], cfg.SOLVER.BASE_LR)
    schedule = build_poly_schedule(cfg, optimizer)
    found = {}
    for iteration in range(1, 10001):
        if iteration in rates:
            found[iteration] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(list(found.values()), list(rates.values()), rtol=1e-5)


@pytest.mark.parametrize("data", ["shapes", "nuclei", "voc"])
def test_stage_3_can_start_from_the_classifier(data) -> None:
    states = []
    for kind, name in ((BANAClassifier, "bana_classifier"), (BANASegmentor, "deeplab_v1")):
        cfg = load(f"BANA/{name}_vgg16_{data}.yaml")
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 4
        with torch.device("meta"):
            states.append({n: v.shape for n, v in kind(cfg).state_dict().items()})
        pixels = (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT)
        states[-1]["pixels"] = tuple(map(tuple, pixels))
    assert states[0] == states[1]
