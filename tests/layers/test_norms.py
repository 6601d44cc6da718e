"""Frozen norms against PyTorch's in evaluation."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from wsis.layers.norms import frozen_norms

torch.manual_seed(0)


def filled(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    for values in (norm.weight.data, norm.running_var):
        values.uniform_(0.5, 2.0)
    for values in (norm.bias.data, norm.running_mean):
        values.normal_()
    return norm


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("make", [nn.BatchNorm2d, BatchNormAct2d])
def test_values_gradients_and_layout_are_those_of_evaluation(make, layout):
    plain = filled(make(12, eps=1e-3)).eval()
    frozen = frozen_norms(nn.Sequential(copy.deepcopy(plain))).train()
    assert not list(frozen.parameters())
    assert {f"0.{name}" for name in plain.state_dict()} - set(frozen.state_dict()) == {
        "0.num_batches_tracked"
    }
    x = torch.randn(3, 12, 5, 7).contiguous(memory_format=layout)
    torch.testing.assert_close(frozen(x), plain(x))
    values = []
    for norm in (plain, frozen):
        own = x.clone().requires_grad_()
        y = norm(own)
        assert y.is_contiguous(memory_format=layout)
        y.pow(2).sum().backward()
        values.append((y, own.grad))
    torch.testing.assert_close(values[1], values[0])


def test_a_norm_by_itself_keeps_its_activation():
    norm = filled(BatchNormAct2d(4)).eval()
    x = torch.randn(1, 4, 3, 3)
    assert (frozen_norms(norm)(x) >= 0).all()


def test_half_precision_stays_half():
    frozen = frozen_norms(filled(nn.BatchNorm2d(4)))
    x = torch.randn(1, 4, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    assert frozen(x).dtype == torch.bfloat16
