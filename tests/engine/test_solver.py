"""Optimizers and schedules of methods that do not train like a detector."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import wsis
from wsis.engine.solver import build_optimizer, build_poly_schedule
from wsis.engine.trainer import WsisTrainer
from wsis.modeling.method import Method


class Grouped(nn.Linear, Method):
    """Its bias learns twice as fast and does not decay."""

    def parameter_groups(self, cfg):
        return [
            {"params": [self.weight]},
            {"params": [self.bias], "lr": 2 * cfg.SOLVER.BASE_LR, "weight_decay": 0.0},
        ]


def config(**solver):
    cfg = wsis.get_cfg()
    cfg.SOLVER.update(BASE_LR=0.5, MAX_ITER=40, WARMUP_ITERS=0, **solver)
    return cfg


def test_a_model_says_how_its_parameters_learn():
    optimizer = build_optimizer(config(WEIGHT_DECAY=0.01), Grouped(2, 1))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.0]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert all(group["momentum"] == 0.9 for group in optimizer.param_groups)


@pytest.mark.parametrize("model", [Grouped(2, 1), nn.Linear(2, 1)])
def test_adamw_with_the_groups_of_a_method_or_of_detectron2(model):
    optimizer = build_optimizer(config(OPTIMIZER="AdamW", WEIGHT_DECAY=0.01), model)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["lr"] for group in optimizer.param_groups} <= {0.5, 1.0}
    assert all("betas" in group for group in optimizer.param_groups)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_gradients_of_groups_are_clipped_as_the_config_says():
    cfg = config(MOMENTUM=0.0, WEIGHT_DECAY=0.0)
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, CLIP_TYPE="value", CLIP_VALUE=0.1)
    model = Grouped(2, 1)
    optimizer = build_optimizer(cfg, model)
    before = model.weight.detach().clone()
    model.weight.grad = torch.full_like(before, 5.0)
    model.bias.grad = torch.ones_like(model.bias)
    optimizer.step()
    assert torch.allclose(before - model.weight, torch.full_like(before, 0.05))


@pytest.mark.parametrize("horizon", [0, 160, 25])
def test_the_trainers_poly_schedule_keeps_the_ratios_of_groups(horizon: int):
    cfg = config(LR_SCHEDULER_NAME="WarmupPolyLR", POLY_LR_HORIZON=horizon)
    end = horizon or 40
    optimizer = WsisTrainer.build_optimizer(cfg, Grouped(2, 1))
    schedule = WsisTrainer.build_lr_scheduler(cfg, optimizer)
    for iteration in range(40):
        expected = 0.5 * (1 - min(iteration, end - 1) / end) ** 0.9
        assert schedule.get_last_lr() == pytest.approx([expected, 2 * expected], rel=1e-6)
        assert [g["lr"] for g in optimizer.param_groups] == schedule.get_last_lr()
        optimizer.step()
        schedule.step()


def test_poly_schedule_warms_up():
    cfg = config(WARMUP_FACTOR=0.1)
    cfg.SOLVER.WARMUP_ITERS = 10
    optimizer = build_optimizer(cfg, Grouped(2, 1))
    build_poly_schedule(cfg, optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
