"""Learning rates and weight decays of pretrained and new layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import nn


def parameter_groups(
    model: nn.Module, pretrained: nn.Module, solver: CfgNode, factors: Sequence[float]
) -> list[dict[str, Any]]:
    """Four groups: pretrained weights, pretrained biases, new weights, new biases; empty ones are left out.

    Args:
        model: whose parameters that ask for a gradient are each in exactly one group.
        pretrained: the part of it that is not new.
        solver: ``BASE_LR``; ``WEIGHT_DECAY`` of weights; ``WEIGHT_DECAY_BIAS`` of biases, None = as weights.
        factors: learning rates of the last three groups in units of ``BASE_LR``.

    Returns:
        For the optimizer, each with ``params``, ``lr``, ``weight_decay``.
    """
    old = {id(parameter) for parameter in pretrained.parameters()}
    groups: list[list[nn.Parameter]] = [[], [], [], []]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_bias = name.endswith("bias")
            groups[2 * (id(parameter) not in old) + is_bias].append(parameter)
    decay = solver.WEIGHT_DECAY
    bias_decay = decay if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
    rates = [factor * solver.BASE_LR for factor in (1.0, *factors)]
    decays = (decay, bias_decay) * 2
    return [
        {"params": group, "lr": rate, "weight_decay": own}
        for group, rate, own in zip(groups, rates, decays, strict=True)
        if group
    ]
