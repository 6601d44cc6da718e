"""Few maps in place of enlarged features: the same numbers."""

import pytest
import torch

from benchmarks.bana import FullSize
from wsis.layers.enlarged import Enlarged


@pytest.mark.parametrize("size", [(56, 64), (33, 50), (7, 8), (3, 3)])
def test_both_ways_agree(size):
    features, vectors = torch.rand(64, 7, 8), torch.randn(4, 64)
    few, full = Enlarged(features, size), FullSize(features, size)
    mask = torch.rand(size) > 0.6
    assert torch.allclose(few.products(vectors), full.products(vectors), atol=1e-4)
    assert torch.allclose(few.cosines(vectors), full.cosines(vectors), atol=1e-5)
    assert torch.allclose(few.mean(mask), full.mean(mask), atol=1e-5)


def test_features_of_both_signs():
    features, vectors = torch.randn(16, 5, 6), torch.randn(3, 16)
    few, full = Enlarged(features, (40, 48)), FullSize(features, (40, 48))
    assert torch.allclose(few.cosines(vectors), full.cosines(vectors), atol=1e-4)


def test_nothing_is_divided_by_zero():
    few = Enlarged(torch.zeros(4, 3, 3), (9, 9))
    assert (few.cosines(torch.ones(1, 4)) == 0).all()
    assert (few.mean(torch.zeros(9, 9, dtype=torch.bool)) == 0).all()
    assert (Enlarged(torch.ones(4, 3, 3), (9, 9)).cosines(torch.zeros(1, 4)) == 0).all()
