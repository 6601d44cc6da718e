"""A step of every model under autocast: losses stay in single precision, and nothing becomes infinite.

The lists of what is computed in half precision differ between devices, so this cannot stand for a step on a GPU; it
tells whether a loss is summed, a norm taken or a logarithm made in half precision.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.models import EXPLAINED, METHODS, MODELS, STUDENTS, losses_and_gradient, student

SCALE = 2.0**10
"""A gradient that is too small for half precision without it shows with it."""
HALVES = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


def mixed_step(model: nn.Module, batch: Any, half: torch.dtype) -> dict[str, float]:
    """As :func:`losses_and_gradient`, after a look at the types and at every number."""
    seen: set[torch.dtype] = set()

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            seen.add(output.dtype)
        elif isinstance(output, dict) and module is model:
            assert {loss.dtype for loss in output.values()} == {torch.float32}

    for module in model.modules():
        module.register_forward_hook(note)
    # autocast is at work in the forward pass alone, as in Detectron2's trainer
    inner = model.forward
    model.forward = torch.autocast("cpu", half)(inner)
    found = losses_and_gradient(model, batch, SCALE)
    assert half in seen, "autocast was at work"
    assert all(map(math.isfinite, found.values())), found
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.dtype == torch.float32
    return found


@HALVES
@pytest.mark.parametrize("name", MODELS)
def test_a_step(name, half):
    model, batch = (METHODS | EXPLAINED)[name]()
    expected = losses_and_gradient(copy.deepcopy(model), batch) if name in METHODS else {}
    found = mixed_step(model, batch, half)
    assert len(found) > 2
    assert found.keys() == expected.keys() or not expected
    for key in (key for key in expected if key.startswith("loss_")):
        assert found[key] == pytest.approx(expected[key], rel=0.1, abs=1e-3), key


@HALVES
@STUDENTS
def test_a_step_of_a_student(tmp_path, head, architecture, half):
    found = mixed_step(*student(tmp_path, head, architecture), half)
    assert found.get("loss_mask", found.get("loss_projection")) > 0
