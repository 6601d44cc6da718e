from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils.events import EventStorage
from torch import nn

from tests.tiny import write_config
from wsis.config import load_cfg
from wsis.data.build import build_train_loader
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer, freeze_modules
from wsis.errors import ConfigError


def _model() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return nn.ModuleDict({"body": body, "norm": nn.BatchNorm2d(4), "head": nn.Conv2d(4, 1, 1)})


def test_frozen_modules_get_no_gradient_and_keep_their_statistics():
    model = _model()
    norm = model["body"][1]
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.copy_(torch.rand(tensor.shape) * 0.01)
    image = torch.randn(2, 3, 8, 8)
    expected = model["body"].eval()(image)
    kept = copy.deepcopy(model["body"].state_dict())

    assert freeze_modules(model, ["body"]) == 4  # weight and bias, of convolution and norm
    model.train()
    features = model["body"](image)

    torch.testing.assert_close(features, expected)
    assert not features.requires_grad
    for name, value in model["body"].state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert isinstance(model["norm"], nn.BatchNorm2d)
    assert all(p.requires_grad for p in model["head"].parameters())


def test_a_norm_itself_can_be_frozen():
    model = _model()
    assert freeze_modules(model, ["norm", "body.0"]) == 4
    assert isinstance(model["norm"], FrozenBatchNorm2d)
    assert isinstance(model["body"][1], nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("prefixes", "text"),
    [
        *(([p], "expected one of body, norm, head") for p in ("bodi", "bod", "", 3)),
        (["body", "norm", "head"], "nothing to train"),
    ],
)
def test_unknown_modules_and_all_of_them_are_refused(prefixes, text):
    with pytest.raises(ConfigError, match=text):
        freeze_modules(_model(), prefixes)


def test_with_all_but_the_mask_head_frozen_only_its_parameters_get_gradients(tmp_path, data):
    frozen = ["backbone", "proposal_generator", "roi_heads.box_head", "roi_heads.box_predictor"]
    keys = {"MODEL__MASK_ON": True, "WSIS__SUPERVISION": "mask", "WSIS__FREEZE": frozen}
    cfg = load_cfg(write_config(tmp_path, data, **keys))
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    model = WsisTrainer.build_model(cfg).train()
    seen = []
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output))

    with EventStorage():
        losses = model(next(iter(build_train_loader(cfg))))
    sum(losses.values()).backward()

    assert not any(level.requires_grad for level in seen[0].values())
    for name, parameter in model.named_parameters():
        in_head = name.startswith("roi_heads.mask_head.")
        assert (parameter.grad is not None) == in_head, name
    assert not losses["loss_cls"].requires_grad
