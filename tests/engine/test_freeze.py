from __future__ import annotations

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


def _random_statistics(norm: nn.Module) -> None:
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.copy_(torch.rand(tensor.shape) * 0.01)


def test_frozen_modules_get_no_gradient_and_keep_their_statistics():
    model = _model()
    _random_statistics(model["body"][1])
    image = torch.randn(2, 3, 8, 8)
    expected = model["body"].eval()(image)
    kept = model["body"].state_dict()
    kept = {name: value.clone() for name, value in kept.items()}

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


@pytest.mark.parametrize("prefix", ["bodi", "bod", "", 3])
def test_unknown_module_is_named_with_the_choices(prefix):
    with pytest.raises(ConfigError, match="expected one of body, norm, head"):
        freeze_modules(_model(), [prefix])


def test_something_must_be_left_to_train():
    with pytest.raises(ConfigError, match="nothing to train"):
        freeze_modules(_model(), ["body", "norm", "head"])


def test_with_all_but_the_mask_head_frozen_only_its_parameters_get_gradients(tmp_path, data):
    frozen = ["backbone", "proposal_generator", "roi_heads.box_head", "roi_heads.box_predictor"]
    path = write_config(
        tmp_path, data, MODEL__MASK_ON=True, WSIS__SUPERVISION="mask", WSIS__FREEZE=frozen
    )
    cfg = load_cfg(path)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    model = WsisTrainer.build_model(cfg).train()
    seen = []
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output))

    with EventStorage():
        losses = model(next(iter(build_train_loader(cfg))))
    sum(losses.values()).backward()

    assert not any(level.requires_grad for level in seen[0].values())
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {
        name for name, _ in model.named_parameters() if name.startswith("roi_heads.mask_head.")
    }
    assert not losses["loss_cls"].requires_grad
