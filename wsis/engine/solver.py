"""Optimizers and schedules of methods that do not train like a detector."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from fvcore.common.param_scheduler import ParamScheduler, PolynomialDecayParamScheduler
from torch import nn
from torch.optim import Optimizer

from wsis.errors import ConfigError
from wsis.modeling.method import Method

OPTIMIZERS: dict[str, tuple[type[Optimizer], tuple[str, ...]]] = {
    "SGD": (torch.optim.SGD, ("momentum", "nesterov")),
    "AdamW": (torch.optim.AdamW, ()),
}
"""Values of ``SOLVER.OPTIMIZER``, and which further keys of the solver each takes."""


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """The optimizer of ``SOLVER.OPTIMIZER``, with the parameter groups of Detectron2; a
    :class:`wsis.modeling.method.Method` may say itself which parameters have which ``lr`` and ``weight_decay``.

    Args:
        cfg: the solver's values.
        model: not wrapped.

    Raises:
        ConfigError: no such optimizer.
    """
    solver = cfg.SOLVER
    if solver.OPTIMIZER not in OPTIMIZERS:
        raise ConfigError(
            f"SOLVER.OPTIMIZER: found {solver.OPTIMIZER!r}, expected {' or '.join(OPTIMIZERS)}"
        )
    groups = model.parameter_groups(cfg) if isinstance(model, Method) else None
    if groups is None:
        groups = get_default_optimizer_params(
            model,
            base_lr=solver.BASE_LR,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        )
    kind, names = OPTIMIZERS[solver.OPTIMIZER]
    further = {name: solver[name.upper()] for name in names}
    return maybe_add_gradient_clipping(cfg, kind)(
        groups, solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, **further
    )


class Poly(PolynomialDecayParamScheduler):
    """(1 - i / H)^power at iteration i, and what iteration H - 1 has at all later ones.

    Args:
        power: exponent.
        iterations: of the run.
        horizon: H.
    """

    def __init__(self, power: float, iterations: int, horizon: int) -> None:
        super().__init__(1.0, power)
        self.ratio, self.last = iterations / horizon, 1 - 1 / horizon

    def __call__(self, where: float) -> float:
        """Factor of the learning rate at a share of the run, in [0, 1]."""
        return super().__call__(min(where * self.ratio, self.last))


def build_poly_schedule(cfg: CfgNode, optimizer: Optimizer) -> LRMultiplier:
    """lr(i) = lr(0) (1 - i / H)^POLY_LR_POWER, with Detectron2's warm-up in front of it; H is ``POLY_LR_HORIZON``, or
    ``MAX_ITER`` where that is 0.

    Args:
        cfg: the solver's values; ``WARMUP_ITERS`` 0 = no warm-up.
        optimizer: whose groups keep their ratios.
    """
    solver = cfg.SOLVER
    horizon = solver.POLY_LR_HORIZON or solver.MAX_ITER
    multiplier: ParamScheduler = Poly(solver.POLY_LR_POWER, solver.MAX_ITER, horizon)
    if solver.WARMUP_ITERS > 0:
        share = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
        multiplier = WarmupParamScheduler(
            multiplier, solver.WARMUP_FACTOR, share, solver.WARMUP_METHOD
        )
    return LRMultiplier(optimizer, multiplier, solver.MAX_ITER)
