"""Samples are PyTorch's; what is made without the channels is what is made with them."""

import pytest
import torch
from torch.nn import functional

from wsis.layers.bilinear import (
    bilinear_points,
    grid_points,
    neighbour_products,
    sample,
    sampled_square_norms,
    spread,
)

SIZE = (5, 7)


def rows_of(features):
    """(C, h, w) to (h w, C)."""
    return features.flatten(1).T


@pytest.fixture
def features():
    return torch.rand(40, *SIZE, dtype=torch.float64).float()


@pytest.fixture
def points():
    """Some in the map, some on its edges, some beyond."""
    y, x = torch.rand(60) * 8 - 1.5, torch.rand(60) * 10 - 1.5
    y[:3], x[:3] = torch.tensor([0.0, 4.0, 2.0]), torch.tensor([0.0, 6.0, 6.0])
    return y, x


def plain_samples(features, y, x):
    height, width = SIZE
    grid = torch.stack([x / (width - 1), y / (height - 1)], dim=-1) * 2 - 1
    return functional.grid_sample(features[None], grid[None, None], align_corners=True)[0, :, 0].T


def test_samples_are_pytorchs(features, points):
    features.requires_grad_()
    found = sample(rows_of(features), bilinear_points(*points, SIZE))
    expected = plain_samples(features, *points)
    assert torch.allclose(found, expected, atol=1e-5)
    (slope,), (other,) = (
        torch.autograd.grad(v.square().sum(), features) for v in (found, expected)
    )
    assert torch.allclose(slope, other, atol=1e-4)


def test_norms_are_those_of_the_samples_and_without_the_diagonals_wrong(features, points):
    products, where = neighbour_products(features), bilinear_points(*points, SIZE)
    expected = plain_samples(features, *points).square().sum(dim=1)
    assert torch.allclose(sampled_square_norms(products, where), expected, rtol=1e-5, atol=1e-5)
    products[:, 3:] = 0
    assert not torch.allclose(sampled_square_norms(products, where), expected, rtol=1e-2)


def test_gradients_of_the_products():
    features = torch.rand(33, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(neighbour_products, features)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1)])
def test_thin_maps(size):
    features = torch.rand(3, *size, requires_grad=True)
    points = grid_points((6, 5), size)
    found = sampled_square_norms(neighbour_products(features), points)
    enlarged = functional.interpolate(
        features[None], size=(6, 5), mode="bilinear", align_corners=True
    )
    assert torch.allclose(found.view(6, 5), enlarged.square().sum(dim=1)[0], atol=1e-5)
    found.sum().backward()
    assert torch.isfinite(features.grad).all()


def test_spreading_is_the_adjoint_of_sampling(features, points):
    where = bilinear_points(*points, SIZE)
    weights, table = torch.rand(60), rows_of(features)
    there = (weights[:, None] * sample(table, where)).sum(dim=0)
    back = spread(weights, where, len(table)) @ table
    assert torch.allclose(there, back, rtol=1e-5)
