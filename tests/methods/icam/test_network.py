from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_backbone

from wsis.config import get_cfg
from wsis.errors import ConfigError
from wsis.layers.deeplab import resize_scores
from wsis.methods.icam.network import CamNetwork, pixel_correlation, refine
from wsis.modeling.backbones.resnet38 import ResNet38, ResNet38Params

KEYS = json.loads(
    (Path(__file__).parents[2] / "golden/data/icam/resnet38_cam_rule_keys.json").read_text()
)


def make(width=1 / 32, channels=(4, 8)):
    net = ResNet38(ResNet38Params(width), freeze_at=2)
    return CamNetwork(net, num_classes=3, channels=channels, dropout=0.5)


def test_the_correlation_is_divided_by_the_sums_of_its_columns():
    torch.manual_seed(0)
    features = torch.randn(2, 8, 5, 6)
    alike = pixel_correlation(features)
    assert alike.min() == 0
    weights = alike / (alike.sum(dim=1, keepdim=True) + 1e-5)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 30), rtol=0, atol=1e-4)
    logits = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(refine(logits, features).flatten(2), logits.flatten(2) @ weights)
    small = torch.randn(2, 3, 3, 3)
    torch.testing.assert_close(
        refine(small, features), refine(resize_scores(small, (5, 6)), features)
    )


def test_refined_maps_teach_classifier_and_correlation_but_not_the_lower_maps():
    net = make().train()
    net(torch.rand(2, 3, 40, 48)).refined.square().sum().backward()
    for layer in (net.fc8, net.f8_3, net.f8_4, net.f9, net.backbone.b7.conv_branch2a):
        assert layer.weight.grad.abs().sum() > 0
    low, middle = (torch.rand(1, n, 5, 6, requires_grad=True) for n in (16, 32))
    net.correlation_features(torch.rand(1, 3, 40, 48), low, middle, (5, 6)).sum().backward()
    assert low.grad is None
    assert middle.grad is None


def test_names_shapes_and_what_is_trained_are_those_of_the_release():
    with torch.device("meta"):
        net = CamNetwork(ResNet38(ResNet38Params(), 2), 20, (64, 128), 0.5).train()
    state = {name.removeprefix("backbone."): list(v.shape) for name, v in net.state_dict().items()}
    assert state == KEYS["state_dict"]
    trained = [n.removeprefix("backbone.") for n, p in net.named_parameters() if p.requires_grad]
    assert sorted(trained) == sorted(KEYS["trainable_after_train()"])


@pytest.mark.parametrize("indices", [[-3, -2, -1], [1, 2, 3]])
def test_any_timm_network_with_three_maps(indices):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_timm_backbone"
    cfg.MODEL.TIMM.OUT_INDICES = indices
    net = CamNetwork(build_backbone(cfg), 3, (4, 8), 0.0).train()
    images = torch.rand(2, 3, 96, 128)
    maps = net(images)
    stride = 32 if indices[-1] == -1 else 16
    assert maps.plain.shape == maps.refined.shape == (2, 4, 96 // stride, 128 // stride)
    (maps.plain.sum() + maps.refined.sum()).backward()
    cfg.MODEL.TIMM.OUT_INDICES = indices[1:]
    with pytest.raises(
        ConfigError, match=r"3 maps are needed, found stage\d, stage\d .*OUT_INDICES"
    ):
        CamNetwork(build_backbone(cfg), 3, (4, 8), 0.0)
