"""BANASegmentor: both networks, what it trains and returns, its parameter groups."""

import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from tests.masks import needs_crf
from tests.methods.bana import tiny_classifier, tiny_segmentor
from tests.methods.bana.tiny_segmentor import ASPP, images, make_cfg, samples
from wsis.config import get_cfg
from wsis.engine.solver import build_optimizer
from wsis.errors import ConfigError
from wsis.layers.deeplab import cosine_scores
from wsis.methods.bana import BANASegmentor
from wsis.methods.bana.nal import LOSSES

NETWORKS = {"vgg": {}, "aspp": ASPP}


def build(network="vgg", **keys):
    torch.manual_seed(0)
    return build_model(make_cfg(**NETWORKS[network], **keys))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_every_parameter(network, loss):
    model = build(network, MODEL__BANA_SEG__LOSS=loss)
    losses = model(samples(2))
    assert all(name.startswith("loss_") for name in losses)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@needs_crf
def test_all_four_protocols_in_one_pass():
    names = ["single", "single_crf", "multi", "multi_crf"]
    labels = build(MODEL__SEGMENTOR__PROTOCOLS=names).eval()(images(1))[0]["sem_seg_labels"]
    assert list(labels) == names
    for array in map(np.asarray, labels.values()):
        assert array.shape == (40, 56) and array.dtype == np.uint8 and array.max() < 3


@pytest.mark.parametrize(
    ("number", "keys"),
    [
        (20505408, {"BACKBONE.NAME": "build_atrous_vgg16_backbone", "VGG.FC6_DILATION": 12}),
        (
            61379904,
            {"BACKBONE.NAME": "build_atrous_resnet_backbone", "BACKBONE.FREEZE_AT": 0}
            | {"RESNETS.DEPTH": 101, "RESNETS.NORM": "BN", "SEGMENTOR.HEAD": "aspp"},
        ),
    ],
)
def test_the_networks_are_those_of_the_paper(number, keys):
    cfg = get_cfg()
    keys = keys | {"SEM_SEG_HEAD.NUM_CLASSES": 21}
    cfg.merge_from_list([word for k, v in keys.items() for word in (f"MODEL.{k}", v)])
    with torch.device("meta"):  # without memory for the parameters
        assert sum(p.numel() for p in BANASegmentor(cfg).parameters()) == number


@pytest.mark.parametrize("tiny", [tiny_classifier, tiny_segmentor])
def test_rates_are_one_two_ten_twenty_and_biases_do_not_decay(tiny):
    keys = {"SOLVER.WEIGHT_DECAY_BIAS": 0.0, "SOLVER.WEIGHT_DECAY": 5e-4, "MODEL.VGG.NORM": ""}
    cfg = tiny.make_cfg(**keys, MODEL__BANA__LR_FACTORS=[2.0, 10.0, 20.0])
    model = build_model(cfg)
    model.extra = nn.Conv2d(1, 1, 1)
    groups = build_optimizer(cfg, model).param_groups
    assert [g["lr"] / cfg.SOLVER.BASE_LR for g in groups] == pytest.approx([1, 2, 10, 20])
    assert [g["weight_decay"] for g in groups] == [5e-4, 0, 5e-4, 0]
    found = [{id(p) for p in g["params"]} for g in groups]
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    assert set.union(*found) == {id(p) for p in model.parameters()}
    assert found[2] == {id(model.classifier.weight), id(model.extra.weight)}
    assert found[3] == {id(model.extra.bias)}


def test_a_frozen_layer_is_in_no_group_and_resnet_has_two():
    keys = {"MODEL.SEGMENTOR.LR_FACTORS": [1.0, 10.0, 10.0], "SOLVER.WEIGHT_DECAY": 5e-4}
    cfg = make_cfg(**ASPP, **keys)
    model = build_model(cfg)
    model.backbone.stem.requires_grad_(False)
    groups = model.parameter_groups(cfg)
    assert [g["lr"] / cfg.SOLVER.BASE_LR for g in groups] == pytest.approx([1, 10])
    assert [g["weight_decay"] for g in groups] == [5e-4, 5e-4]
    trained = sum(p.requires_grad for p in model.parameters())
    assert sum(len(g["params"]) for g in groups) == trained < len(list(model.parameters()))


def test_the_last_batch_leaves_no_trace_in_a_frozen_resnet():
    model, outputs = build("aspp"), []
    for seed in (1, 2):
        model.train()
        model([{**s, "image": s["image"] * seed / 2} for s in samples(2, seed=seed)])
        outputs.append(model.eval()(images(1))[0]["sem_seg"])
    assert torch.equal(*outputs)


def test_running_statistics_are_not_those_of_the_last_batch():
    """Caffe's momentum of 0.999 is PyTorch's 0.001; at 0.1 or less one batch moves them a tenth of the way at most."""
    model = build("aspp", MODEL__RESNETS__NORM="BN")
    momenta = [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert momenta and max(momenta) <= 0.1


def test_cosines_are_never_taken_in_half_precision_and_scores_are_an_eighth_of_the_crop():
    model, seen = build(), []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model.scores(torch.rand(1, 3, 321, 321))
    assert scores.shape == (1, 3, 41, 41) and seen[0].dtype == torch.bfloat16
    expected = cosine_scores(seen[0].float(), model.classifier.weight[:, :, 0, 0].detach())
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("SEM_SEG_HEAD.NUM_CLASSES", 1, "2 to 255"),
        ("SEM_SEG_HEAD.NUM_CLASSES", 256, "2 to 255"),
        ("BANA_SEG.LOSS", "nal", ""),
        ("BANA_SEG.BOOTSTRAP", 1.5, ""),
        ("SEGMENTOR.HEAD", "fcn", ""),
        ("SEGMENTOR.CLASSIFIER", "linear", ""),
        ("SEGMENTOR.PROTOCOLS", [], ""),
        ("SEGMENTOR.PROTOCOLS", ["single", "single"], ""),
        ("SEGMENTOR.PROTOCOLS", ["double"], ""),
        ("SEGMENTOR.TEMPERATURE", 0.0, ""),
        ("SEGMENTOR.SCALES", [1.0, 0.0], ""),
        ("SEGMENTOR.LR_FACTORS", [1.0], ""),
        ("SEGMENTOR.CRF_MIN_PROBABILITY", 1.0, ""),
    ],
)
def test_values_out_of_range_are_named(key, value, expected):
    found = re.escape(repr(value))
    with pytest.raises(ConfigError, match=rf"MODEL\.{key}: found {found}, expected {expected}"):
        build(**{f"MODEL.{key}": value})
