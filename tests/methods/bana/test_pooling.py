"""Background-aware pooling: all boxes at once are the same as box by box, and what happens at its edges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.frame import read_arrays
from tests.methods.bana.plain import pool_box_by_box
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.methods.bana import pooling
from wsis.methods.bana.lattice import box_lattice
from wsis.methods.bana.pooling import (
    PoolingParams,
    background_aware_pooling,
    classification_targets,
    grid_padding,
)

RECORDED = Path(__file__).parents[2] / "golden" / "data" / "bana" / "bap_grid3_roi1.npz"
SIZE = (9, 11)
BOXES = torch.tensor(
    [[-0.8, -0.5, 0.3, 0.6], [0.1, -1.0, 1.0, 0.2], [-0.9, 0.3, -0.1, 1.0], [0.2, 0.2, 0.9, 0.8]]
)
IMAGE = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def features():
    return torch.rand(2, 12, *SIZE)


@pytest.fixture
def mask():
    """1 = background; a fifth of it inside."""
    mask = torch.ones(2, 65, 81)
    mask[:, 10:50, 12:70] = 0
    return mask


def pool(features, mask, boxes=BOXES, image=IMAGE, **changes):
    params = replace(PoolingParams(), **changes)
    size = tuple(features.shape[2:])
    lattice = box_lattice(boxes, image, size, params.roi_size, params.align_corners)
    return background_aware_pooling(
        features, mask, lattice, params.grid_size, params.min_background, params.aware
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"align_corners": False},
        {"aware": False},
        {"grid_size": 1, "roi_size": (1, 3)},
        {"grid_size": 5, "roi_size": (3, 2)},
        {"min_background": 0.99},
    ],
)
def test_all_at_once_is_box_by_box(features, mask, changes):
    features.requires_grad_()
    pooled = pool(features, mask, **changes)
    windows, queries = pool_box_by_box(
        features, mask, BOXES, IMAGE, replace(PoolingParams(), **changes)
    )
    assert torch.allclose(pooled.windows, windows, atol=1e-5)
    assert torch.allclose(pooled.queries[pooled.valid], queries, atol=1e-5)
    losses = [
        windows.square().sum() + queries.square().sum()
        for windows, queries in ((pooled.windows, pooled.queries), (windows, queries))
    ]
    found, expected = (torch.autograd.grad(loss, features)[0] for loss in losses)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_gradient_is_that_of_numbers(align_corners):
    """In double precision; of what the loss sees, an image without attention and a cell without background included."""
    generator = torch.Generator().manual_seed(3)
    features = torch.rand(3, 5, 4, 6, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.ones(3, 32, 48, dtype=torch.float64)
    mask[0, :16, :24], mask[1, 4:30, 6:40], mask[2] = 0, 0, 0
    mask[2, :2] = 1
    boxes = torch.tensor([[-0.9, -0.7, 0.4, 0.6], [0.1, -0.2, 0.9, 1.0], [-0.5, -0.5, 0.5, 0.5]])

    def outputs(values):
        pooled = pool(
            values,
            mask,
            boxes,
            torch.tensor([0, 0, 2]),
            grid_size=2,
            align_corners=align_corners,
        )
        return pooled.windows, pooled.queries, pooled.attention

    assert torch.autograd.gradcheck(outputs, features)


def test_padding_goes_to_both_ends_or_to_the_far_one():
    assert grid_padding(41, 41, 4) == (0, 3, 0, 3)
    assert grid_padding(42, 41, 4) == (0, 3, 1, 1)
    assert grid_padding(44, 40, 4) == (0, 0, 0, 0)


def test_a_detached_attention_has_another_gradient(monkeypatch):
    arrays = read_arrays(RECORDED)
    boxes = torch.from_numpy(arrays["boxes_norm"])
    weight = torch.from_numpy(arrays["classifier_weight"])
    mask = torch.from_numpy(arrays["bg_mask"])[:, 0].float()

    def gradient():
        features = torch.from_numpy(arrays["features"]).requires_grad_()
        image = torch.from_numpy(arrays["batch_id"])
        pooled = pool(features, mask, boxes[:, :4], image, grid_size=3, roi_size=(1, 1))
        rows = torch.cat([pooled.windows.flatten(0, 1), pooled.queries.flatten(0, 1)])
        targets = classification_targets(boxes[:, 4].long(), 1, pooled.valid)
        loss = mean_cross_entropy(rows @ weight.T, targets)
        return torch.autograd.grad(loss, features)[0].numpy()

    expected = arrays["grad_features_ac1"]
    assert np.allclose(gradient(), expected, rtol=1e-3, atol=1e-6)
    attention = pooling.background_attention
    monkeypatch.setattr(
        pooling, "background_attention", lambda *a: attention(*a).detach() + 0 * attention(*a)
    )
    assert not np.allclose(gradient(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("share", "aware"), [(0.12, False), (0.13, True)])
def test_little_background_means_no_attention_but_queries(features, share, aware):
    mask = torch.zeros(2, 100, 100)
    mask[:, : int(100 * share)] = 1
    pooled = pool(features, mask)
    assert (pooled.attention != 1).any() == aware
    assert pooled.valid.sum() == 2 * 4, "the first row of cells"
    targets = classification_targets(torch.ones(4, dtype=torch.int64), 4, pooled.valid)
    assert (targets == 0).sum() == pooled.valid.sum()


def test_the_order_of_images_does_not_matter(features, mask):
    mask[1, :, 40:] = 1
    pooled = pool(features, mask)
    swapped = pool(features.flip(0), mask.flip(0), BOXES[[2, 3, 0, 1]])
    assert torch.allclose(swapped.windows[[2, 3, 0, 1]], pooled.windows, atol=1e-6)
    assert torch.allclose(swapped.queries.flip(0), pooled.queries, atol=1e-6)
    weight = torch.randn(3, 12)
    losses = []
    for each, labels in ((pooled, [1, 2, 2, 1]), (swapped, [2, 1, 1, 2])):
        rows = torch.cat([each.windows.flatten(0, 1), each.queries.flatten(0, 1)])
        targets = classification_targets(torch.tensor(labels), 4, each.valid)
        losses.append(mean_cross_entropy(rows @ weight.T, targets))
    assert torch.allclose(*losses, rtol=1e-6)


def test_attention_does_not_depend_on_an_images_scale(features, mask):
    scaled = features.clone()
    scaled[0] *= 3
    assert torch.allclose(pool(scaled, mask).attention, pool(features, mask).attention, atol=1e-6)


def test_no_box_leaves_the_queries(features, mask):
    features.requires_grad_()
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    pooled = pool(features, mask, *nothing)
    assert pooled.windows.shape == (0, 4, 12)
    rows = torch.cat([pooled.windows.flatten(0, 1), pooled.queries.flatten(0, 1)])
    targets = classification_targets(nothing[1], 4, pooled.valid)
    loss = mean_cross_entropy(rows @ torch.randn(3, 12).T, targets)
    loss.backward()
    assert loss > 0 and torch.isfinite(features.grad).all()


def test_no_box_and_no_query_is_a_loss_of_zero(features, mask):
    features.requires_grad_()
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    pooled = pool(features, 0 * mask, *nothing)
    rows = torch.cat([pooled.windows.flatten(0, 1), pooled.queries.flatten(0, 1)])
    loss = mean_cross_entropy(rows, classification_targets(nothing[1], 4, pooled.valid))
    loss.backward()
    assert loss == 0 and (features.grad == 0).all()


@pytest.mark.parametrize(
    "box", [[0.0, 0.0, 0.0, 0.0], [-1, -1, -1, 1], [1, 1, 1, 1], [-1, -1, 1, 1]]
)
def test_thin_boxes_have_a_point(features, mask, box):
    features.requires_grad_()
    pooled = pool(features, mask, torch.tensor([box], dtype=torch.float32), torch.tensor([1]))
    assert torch.isfinite(pooled.windows).all() and (pooled.windows != 0).any()
    (gradient,) = torch.autograd.grad(pooled.windows.sum(), features)
    assert torch.isfinite(gradient).all() and (gradient[0] == 0).all()


def test_zero_features_have_finite_gradients(mask):
    features = torch.zeros(2, 12, *SIZE, requires_grad=True)
    pool(features, mask).windows.sum().backward()
    assert torch.isfinite(features.grad).all()
