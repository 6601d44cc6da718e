from __future__ import annotations

import pytest
import torch

from wsis.layers.affinity import at_offset, feature_affinities, pair_offsets
from wsis.layers.random_walk import pairs_of_edges, pairs_of_window, random_walk

SIZE = HEIGHT, WIDTH = 13, 17
BETA, STEPS = 4, 16


def dense(affinity: torch.Tensor, radius: int, beta: float) -> torch.Tensor:
    """T as a matrix in double precision."""
    height, width = affinity.shape[1:]
    matrix = torch.eye(height * width, dtype=torch.float64)
    for values, (dy, dx) in zip(affinity, pair_offsets(radius), strict=True):
        for y, x in values.nonzero().tolist():
            pair = y * width + x, (y + dy) * width + x + dx
            matrix[pair] = matrix[pair[::-1]] = float(values[y, x])
    matrix = matrix.pow(beta)
    return matrix / matrix.sum(dim=0)


def edges(generator: torch.Generator) -> torch.Tensor:
    return pairs_of_edges(torch.rand(SIZE, generator=generator), 5)


def window(generator: torch.Generator) -> torch.Tensor:
    features = torch.randn(1, 6, *SIZE, generator=generator)
    return pairs_of_window(feature_affinities(features, 5)[0], 5)


@pytest.mark.parametrize("make", [edges, window])
def test_equals_the_power_of_the_matrix(make) -> None:
    generator = torch.Generator().manual_seed(2)
    affinity, scores = make(generator), torch.rand(3, *SIZE, generator=generator)
    matrix = dense(affinity, 5, BETA)
    assert torch.allclose(matrix.sum(dim=0), torch.ones(len(matrix), dtype=torch.float64))
    expected = (scores.flatten(1).double() @ matrix.matrix_power(STEPS)).view_as(scores)
    found = random_walk(scores, affinity, 5, BETA, STEPS)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, scores, atol=0.05)


def test_pairs_at_the_border_are_each_methods_own() -> None:
    affinity = pairs_of_edges(torch.zeros(SIZE), 5)
    for values, (dy, dx) in zip(affinity, pair_offsets(5), strict=True):
        inside = torch.zeros(SIZE)
        inside[: HEIGHT - dy, max(0, -dx) : WIDTH - max(0, dx)] = 1
        assert torch.equal(values, inside)
    only = pairs_of_window(torch.ones(len(affinity), HEIGHT - 4, WIDTH - 8), 5)
    assert only.sum() == only.shape[0] * (HEIGHT - 4) * (WIDTH - 8)
    assert (at_offset(only, (0, 0), 5) == 1).all()


def test_constants_isolated_cells_and_no_affinity_stay() -> None:
    scores = torch.rand(2, *SIZE)
    affinity = pairs_of_window(torch.ones(len(pair_offsets(5)), HEIGHT - 4, WIDTH - 8), 5)
    constant = random_walk(torch.full((1, *SIZE), 0.3), affinity, 5, 1, 300)
    torch.testing.assert_close(constant, torch.full((1, *SIZE), 0.3))
    walked = random_walk(scores, affinity, 5, 8, 64)
    assert torch.equal(walked[:, 0, :4], scores[:, 0, :4])
    assert not torch.isclose(walked[:, 5, 8], scores[:, 5, 8]).any()
    assert torch.equal(random_walk(scores, 0 * affinity, 5, 8, 64), scores)
    nothing = pairs_of_window(torch.ones(0, *SIZE), 1)
    assert torch.equal(random_walk(scores, nothing, 1, 8, 64), scores)


def test_scores_do_not_pass_an_edge() -> None:
    edge, scores = torch.zeros(12, 20), torch.zeros(1, 12, 20)
    edge[:, 10], scores[:, 3, 2] = 1, 1
    walked = random_walk(scores, pairs_of_edges(edge, 5), 5, 10, 256)[0]
    assert walked[:, :10].min() > 1e-3 and (walked[:, 10:] == 0).all()
