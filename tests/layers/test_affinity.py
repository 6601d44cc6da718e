from __future__ import annotations

import math

import pytest
import torch

from wsis.layers.affinity import (
    PairLabels,
    affinity_losses,
    at_offset,
    displacement_losses,
    feature_affinities,
    fitting_radius,
    pair_distances,
    pair_labels,
    pair_offsets,
    path_affinities,
    path_cells,
)
from wsis.structures.pseudo_labels import IGNORE


def gathered(values: torch.Tensor, radius: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both cells of all pairs, (N, C, 1 or D, h, w), in the plain way."""
    there = [at_offset(values, offset, radius) for offset in pair_offsets(radius)]
    return at_offset(values, (0, 0), radius)[:, :, None], torch.stack(there, dim=2)


@pytest.mark.parametrize(("radius", "number"), [(1, 0), (2, 4), (3, 12), (5, 34), (10, 152)])
def test_each_pair_within_the_radius_is_there_once(radius: int, number: int) -> None:
    offsets = pair_offsets(radius)
    both = {*offsets, *((-dy, -dx) for dy, dx in offsets)}
    square = range(-radius, radius + 1)
    disc = {(y, x) for y in square for x in square if 0 < y**2 + x**2 < radius**2}
    assert len(offsets) == number and both == disc


def test_pairs_of_a_crop() -> None:
    cells = torch.arange(56 * 56).view(56, 56)
    assert at_offset(cells, (0, 0), 5).numel() == 2496
    assert at_offset(cells, (0, 0), 5)[0, 0] == 4 and at_offset(cells, (2, -3), 5)[0, 0] == 113
    sides = [(56, 56), (11, 90), (10, 90), (90, 8), (4, 9), (2, 2), (1, 50)]
    assert [fitting_radius(5, *size) for size in sides] == [5, 5, 4, 3, 1, 1, 1]
    for size in sides:
        assert at_offset(torch.zeros(size), (0, 0), fitting_radius(5, *size)).numel() > 0
    with pytest.raises(ValueError, match="no source cell of radius 5"):
        at_offset(torch.zeros(9, 8), (0, 0), 5)


@pytest.mark.parametrize("offset", pair_offsets(10)[::7])
def test_a_way_is_connected_and_the_same_both_ways(offset: tuple[int, int]) -> None:
    cells = set(path_cells(offset))
    assert {(0, 0), offset} <= cells
    assert {(offset[0] - y, offset[1] - x) for y, x in cells} == cells
    for y, x in cells - {(0, 0)}:
        assert any((y - dy, x - dx) in cells for dy in (0, 1) for dx in (-1, 0, 1) if dy or dx)


def test_an_edge_parts_what_is_on_both_sides_of_it_alone() -> None:
    edge = torch.zeros(1, 20, 20)
    edge[:, :, 10] = 0.75
    affinity = path_affinities(edge, 5)[0]
    for values, (_, dx) in zip(affinity, pair_offsets(5), strict=True):
        start = torch.arange(4, 16)
        apart = ((start <= 10) & (start + dx >= 10)) | ((start >= 10) & (start + dx <= 10))
        if (
            abs(dx) == 1
        ):  # a way of more than one row has cells beside its ends, which are in its rectangle
            assert torch.equal(values, torch.where(apart, 0.25, 1.0).expand_as(values))


@pytest.mark.parametrize("radius", [2, 4])
def test_gradients_are_those_of_the_plain_way(radius: int) -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2, 3, 9, 11, dtype=torch.float64, generator=generator).requires_grad_()
    expected = torch.randn(len(pair_offsets(radius)), 3, dtype=torch.float64, generator=generator)
    here, there = gathered(values, radius)
    plain = (here - there - expected.T[None, :, :, None, None]).abs().sum(dim=1)
    found = pair_distances(values, radius, expected)
    weights = torch.randn(plain.shape, dtype=torch.float64, generator=generator)
    gradients = [torch.autograd.grad((way * weights).sum(), values) for way in (plain, found)]
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(lambda v: path_affinities(v[:, 0].sigmoid(), radius), values)


def test_equal_features_are_alike() -> None:
    features = torch.zeros(1, 4, 6, 8)
    features[..., 4:] = 1
    affinity = feature_affinities(features, 2)[0]
    # from columns 1 to 6: (0, 1) and (1, 1) cross at 3, (1, -1) at 4, (1, 0) never
    crossing = {(0, 1): 2, (1, 1): 2, (1, -1): 3}
    expected = torch.ones_like(affinity)
    for values, offset in zip(expected, pair_offsets(2), strict=True):
        if offset in crossing:
            values[:, crossing[offset]] = math.exp(-1)
    torch.testing.assert_close(affinity, expected)


def test_labels_of_pairs() -> None:
    label = torch.tensor([[[0, 0, 1, 1, 2, IGNORE], [0, 0, 1, 1, 2, IGNORE]]], dtype=torch.uint8)
    background, foreground, different = (each[0] for each in pair_labels(label, 2))
    right = pair_offsets(2).index((0, 1))
    assert background[right].tolist() == [[False] * 4]
    assert foreground[right].tolist() == [[False, True, False, False]]
    assert different[right].tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("fill", [IGNORE, 0])
def test_losses_of_nothing_are_0(fill: int) -> None:
    labels = pair_labels(torch.full((1, 12, 12), fill), 3)
    edge = torch.rand(1, 12, 12, requires_grad=True)
    losses = affinity_losses(path_affinities(edge, 3), labels)
    losses.total().backward()
    assert edge.grad is not None and edge.grad.isfinite().all()
    assert (losses.foreground, losses.different) == (0, 0)
    assert (losses.background > 0) == (fill == 0)


def test_a_field_that_points_to_the_centre_has_no_loss() -> None:
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(14.0), indexing="ij")
    towards = torch.stack([5 - rows, 7 - columns])[None]
    objects = pair_labels(torch.ones(1, 12, 14), 4)
    assert displacement_losses(towards, objects, 4) == (0, 0)
    assert displacement_losses(-towards, objects, 4)[0] > 1
    ground = PairLabels(objects.foreground, objects.background, objects.different)
    assert displacement_losses(towards, ground, 4)[1] > 0.5
    assert displacement_losses(torch.ones_like(towards), ground, 4)[1] == 0
