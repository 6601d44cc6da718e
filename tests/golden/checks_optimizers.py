"""Recorded courses of parameters under the published optimisers of BAS and ICAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tests.golden.compare import Comparison, absolute, close, each
from tests.golden.frame import Arrays, check, tensor
from wsis.config import get_cfg
from wsis.engine.solver import build_optimizer, build_poly_schedule
from wsis.modeling.method import Method


class Groups(Method):
    """Parameters with learning rates and weight decays of their own."""

    def __init__(self, starts: Sequence[Tensor], rates: np.ndarray, decays: np.ndarray) -> None:
        super().__init__()
        self.values = nn.ParameterList(starts)
        self.rates, self.decays = rates.tolist(), decays.tolist()

    def parameter_groups(self, cfg):
        groups = zip(self.values, self.rates, self.decays, strict=True)
        return [{"params": [p], "lr": lr, "weight_decay": wd} for p, lr, wd in groups]


def course(
    model: Groups,
    gradients: Callable[[int], Sequence[Tensor]],
    steps: int,
    horizon: int,
    momentum: float,
) -> tuple[list[list[Tensor]], list[list[float]]]:
    """Parameters after, and learning rates at, each step.

    Args:
        model: with the first parameters.
        gradients: of a step's number.
        steps: how many.
        horizon: of the schedule.
        momentum: of all groups.
    """
    cfg = get_cfg()
    cfg.SOLVER.update(MAX_ITER=steps, POLY_LR_HORIZON=horizon, WARMUP_ITERS=0, MOMENTUM=momentum)
    optimizer = build_optimizer(cfg, model)
    schedule = build_poly_schedule(cfg, optimizer)
    parameters, rates = [], []
    for step in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        for parameter, gradient in zip(model.values, gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()
        schedule.step()
        parameters.append([parameter.detach().clone() for parameter in model.values])
    return parameters, rates


@check("bas", "poly_optimizer", "w0 v0 A C max_step traj_w traj_v lr_used momentum_in_groups")
def bas_poly_optimizer(arrays: Arrays) -> Iterator[Comparison]:
    """Two groups on a quadratic form, hardly any momentum, a schedule longer than the run."""
    momentum = float(arrays["momentum_in_groups"].max())
    yield absolute("momentum_in_groups", 1e-4, momentum, 1e-9)
    model = Groups(
        [tensor(arrays["w0"]), tensor(arrays["v0"])], np.array([0.05, 0.5]), np.array([1e-4, 1e-4])
    )

    def gradients(step: int) -> list[Tensor]:
        w, v = (parameter.detach() for parameter in model.values)
        return [2 * tensor(arrays["A"]) * w, 0.6 * tensor(arrays["C"]) * v]

    parameters, rates = course(
        model, gradients, len(arrays["lr_used"]), int(arrays["max_step"]), momentum
    )
    found = dict(
        zip(("traj_w", "traj_v"), map(torch.stack, zip(*parameters, strict=True)), strict=True)
    )
    yield from each(arrays, found | {"lr_used": rates}, close, 1e-5, 1e-6)


@check(
    "icam",
    "poly_optimizer",
    "p0 grads params lrs effective_momentum group_weight_decay max_step lr wd",
)
def icam_poly_optimizer(arrays: Arrays) -> Iterator[Comparison]:
    """Four groups with recorded gradients; the schedule ends before the run does."""
    lr, wd = float(arrays["lr"]), float(arrays["wd"])
    decays = wd * np.array([1.0, 0.0, 1.0, 0.0])
    model = Groups(list(tensor(arrays["p0"])), lr * np.array([1.0, 2.0, 10.0, 20.0]), decays)
    parameters, rates = course(
        model,
        lambda step: list(tensor(arrays["grads"])[step]),
        len(arrays["lrs"]),
        int(arrays["max_step"]),
        float(arrays["effective_momentum"]),
    )
    yield absolute("group_weight_decay", decays, arrays["group_weight_decay"], 1e-9)
    params = torch.stack([torch.stack(values) for values in parameters])
    yield from each(arrays, {"params": params, "lrs": rates}, absolute, 1e-6)
