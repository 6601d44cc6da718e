"""Background-aware pooling at its edges; what it computes is compared in ``test_golden_pooling.py``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.methods.bana.plain import pool_box_by_box
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.methods.bana.lattice import box_lattice
from wsis.methods.bana.pooling import (
    PoolingParams,
    background_aware_pooling,
    classification_targets,
)

BOXES = torch.tensor(
    [[-0.8, -0.5, 0.3, 0.6], [0.1, -1.0, 1.0, 0.2], [-0.9, 0.3, -0.1, 1.0], [0.2, 0.2, 0.9, 0.8]]
)
IMAGE = torch.tensor([0, 0, 1, 1])


def pool(features, mask, boxes=BOXES, image=IMAGE, params=PoolingParams()):  # noqa: B008
    size = tuple(features.shape[2:])
    lattice = box_lattice(boxes, image, size, params.roi_size, params.align_corners)
    return background_aware_pooling(
        features, mask, lattice, params.grid_size, params.min_background, params.aware
    )


@pytest.mark.parametrize(
    ("share", "changes", "attended"),
    [
        (0.12, {}, False),
        (0.13, {}, True),
        (0.13, {"aware": False}, False),
        (0.13, {"min_background": 0.99}, False),
    ],
)
def test_little_background_means_no_attention_but_queries(share, changes, attended):
    features, mask = torch.rand(2, 12, 9, 11), torch.zeros(2, 100, 100)
    mask[:, : int(100 * share)] = 1
    params = replace(PoolingParams(), **changes)
    pooled = pool(features, mask, params=params)
    assert (pooled.attention != 1).any() == attended
    windows, queries, counts, _ = pool_box_by_box(features, mask, BOXES, IMAGE, params)
    torch.testing.assert_close(pooled.windows, windows)
    torch.testing.assert_close(pooled.queries, queries)
    assert torch.equal(pooled.valid, counts > 0) and pooled.valid.sum() == 2 * 4, "the first row"
    targets = classification_targets(torch.ones(4, dtype=torch.int64), 4, pooled.valid)
    assert (targets == 0).sum() == pooled.valid.sum()


def test_no_box_and_no_query_is_a_loss_of_zero():
    features = torch.rand(2, 12, 9, 11, requires_grad=True)
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    pooled = pool(features, torch.zeros(2, 65, 81), *nothing)
    rows = torch.cat([pooled.windows.flatten(0, 1), pooled.queries.flatten(0, 1)])
    loss = mean_cross_entropy(rows, classification_targets(nothing[1], 4, pooled.valid))
    loss.backward()
    assert loss == 0 and (features.grad == 0).all()


def test_zero_features_have_finite_gradients():
    features, mask = torch.zeros(2, 12, 9, 11, requires_grad=True), torch.ones(2, 65, 81)
    mask[:, 10:50, 12:70] = 0
    pool(features, mask).windows.sum().backward()
    assert torch.isfinite(features.grad).all()
