"""Predicted convolutions."""

import torch
from torch.nn import functional as F

from wsis.methods.boxcaseg.transfer import WeightTransfer


def test_rows_are_predicted_one_by_one():
    transfer = WeightTransfer(6)
    weight, bias = torch.randn(4, 6, 1, 1), torch.randn(4)
    predicted, _ = transfer(weight, bias)
    assert predicted.shape == weight.shape
    for row, source in zip(predicted, weight, strict=True):
        hidden = F.leaky_relu(transfer.fc1(source.flatten()), 0.1)
        assert torch.allclose(row.flatten(), transfer.fc2(hidden), atol=1e-6)


def test_the_bias_is_scaled_and_shifted():
    transfer = WeightTransfer(3)
    bias = torch.randn(5)
    assert torch.equal(transfer(torch.randn(5, 3), bias)[1], bias)
    transfer.load_state_dict(
        transfer.state_dict() | {"k": torch.tensor([2.0]), "b": torch.tensor([1.0])}
    )
    assert torch.allclose(transfer(torch.randn(5, 3), bias)[1], 2 * bias + 1)


def test_the_source_gets_no_gradient():
    transfer = WeightTransfer(3)
    weight, bias = torch.randn(5, 3, requires_grad=True), torch.randn(5, requires_grad=True)
    sum(part.square().sum() for part in transfer(weight, bias)).backward()
    assert weight.grad is None and bias.grad is None
    assert all(parameter.grad.any() for parameter in transfer.parameters())
