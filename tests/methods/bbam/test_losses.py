import math

import pytest
import torch

from wsis.methods.bbam.losses import (
    ObjectiveParams,
    fidelity,
    mean_over_groups,
    regulariser,
    total_variation,
)


def masks(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(size, generator=generator, dtype=torch.float64) for size in sizes]


@pytest.mark.parametrize(
    ("mask", "value"),
    [
        ([[0.0, 1.0], [0.0, 0.0]], 1 + 1 + 2 * 0 + 2 * 1),  # each diagonal direction counts twice
        ([[0.0, 0.5], [0.0, 0.0]], 4 / 8),
        ([[0.3]], 0.0),
        ([[0.0, 1.0, 0.5]], 1.125),
        ([[0.0], [1.0], [0.5]], 1.125),
        ([[0.7] * 4] * 5, 0.0),
    ],
)
def test_total_variation_and_its_gradient_are_finite(mask, value):
    values = torch.tensor(mask, requires_grad=True)
    out = total_variation(values, 3.0)
    out.backward()
    assert out.item() == pytest.approx(value) and values.grad.isfinite().all()


@pytest.mark.parametrize("power", [2.0, 3.0])
def test_gradients_are_those_of_finite_differences(power):
    params = ObjectiveParams(0.3, 0.7, power)
    for mask in masks((3, 4), (1, 5), (1, 1)):
        assert torch.autograd.gradcheck(lambda m: regulariser(m, params), mask.requires_grad_())


def test_padding_adds_nothing():
    params, alone = ObjectiveParams(0.3, 0.7), masks((3, 4), (5, 2), (1, 1))
    padded, valid = torch.zeros(2, 3, 5, 4, dtype=torch.float64)
    for i, mask in enumerate(alone):
        padded[i, : len(mask), : mask.shape[1]] = mask
        valid[i, : len(mask), : mask.shape[1]] = 1
    values = regulariser(padded.requires_grad_(), params, valid)
    values.sum().backward()
    assert (padded.grad * (1 - valid)).abs().max() == 0
    for i, mask in enumerate(alone):
        value = regulariser(mask.requires_grad_(), params)
        value.backward()
        torch.testing.assert_close(values[i], value)
        torch.testing.assert_close(padded.grad[i, : len(mask), : mask.shape[1]], mask.grad)


def test_cells_are_summed_and_fidelity_is_half_score_half_mean_of_four():
    params = ObjectiveParams(sparsity_weight=0.5, tv_weight=0.0)
    assert regulariser(torch.full((4, 6), 0.25), params).item() == 0.5 * 24 * 0.25
    deltas = torch.tensor([[1.0, -2.0, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]])
    clean = torch.tensor([[0.0, 0.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0]])
    found = fidelity(torch.tensor([0.2, 0.9]), deltas, torch.tensor([0.6, 0.8]), clean)
    torch.testing.assert_close(found, torch.tensor([0.5 * 1.0 + 0.5 * 0.4, 0.5 + 0.05]))


def test_means_of_groups_of_any_size():
    values = torch.tensor([1.0, 2.0, 3.0, 10.0, 7.0, 9.0], dtype=torch.float64)
    assert (mean_over_groups([3, 1, 2], values) @ values).tolist() == [2.0, 10.0, 8.0]
    assert math.isclose(mean_over_groups([100], values).sum().item(), 1)
