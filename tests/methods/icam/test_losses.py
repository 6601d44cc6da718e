from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from wsis.layers.feature_similarity import SimilarityParams
from wsis.methods.icam.losses import (
    EPS,
    EXPECTED,
    LossParams,
    Maps,
    draw_pixels,
    equivariance_losses,
    expected_importance_loss,
    map_losses,
    pooled_loss,
    probability_logit,
    sampled_importance_loss,
)


def made(seed=0, size=(6, 7), classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes + 1, *size, generator=generator)
    return logits.requires_grad_(), torch.tensor([[1.0, 0, 1], [0, 0, 1]])[:, :classes]


def test_logits_of_probabilities_are_finite():
    p = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64, requires_grad=True)
    z = probability_logit(p)
    assert z.tolist()[::2] == pytest.approx([math.log(EPS), -math.log(EPS)])
    torch.testing.assert_close(z.sigmoid(), (p * (1 - EPS) + EPS) / (1 + EPS))
    z.sum().backward()
    assert p.grad.isfinite().all()


def test_the_gradient_of_draws_goes_to_drawn_pixels_by_their_number():
    logits, tags = made()
    p = logits.detach().softmax(dim=1).requires_grad_()
    pixels = torch.zeros(2, 4, 5, dtype=torch.int64)
    pixels[:, 1:] = torch.tensor([3, 3, 3, 8, 20])
    sampled_importance_loss(p, tags, pixels).backward()
    gradient = p.grad.flatten(2)
    assert not gradient[:, 0].any()
    assert gradient.abs().sum(dim=(0, 1)).nonzero()[:, 0].tolist() == [3, 8, 20]
    once = p.detach().clone().requires_grad_()
    sampled_importance_loss(once, tags, pixels[..., 2:]).backward()
    torch.testing.assert_close(gradient[..., 3] / 3 * 5, once.grad.flatten(2)[..., 3] * 3)


def test_the_expectation_is_the_mean_of_draws_and_not_of_uniform_ones():
    torch.manual_seed(3)
    logits, tags = made()
    p = logits.detach().softmax(dim=1)
    exact = expected_importance_loss(p, tags)
    many = [sampled_importance_loss(p, tags, draw_pixels(p, 20)) for _ in range(2000)]
    uniform = [
        sampled_importance_loss(p, tags, draw_pixels(torch.ones_like(p), 20)) for _ in range(2000)
    ]
    for losses, agrees in ((torch.stack(many), True), (torch.stack(uniform), False)):
        error = losses.std() / math.sqrt(len(losses))
        assert bool((losses.mean() - exact).abs() < 3 * error) == agrees


def test_the_gradient_of_the_expectation_is_the_mean_of_the_gradients():
    torch.manual_seed(0)
    logits, tags = made()
    (exact,) = torch.autograd.grad(expected_importance_loss(logits.softmax(dim=1), tags), logits)
    p = logits.softmax(dim=1)
    loss = sampled_importance_loss(p, tags, draw_pixels(p, 400_000))
    (drawn,) = torch.autograd.grad(loss, logits)
    assert (drawn - exact).abs().max() < 0.02 * exact.abs().max()


def test_a_channel_that_is_nowhere_can_be_drawn_from():
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0] = 1000
    p = logits.softmax(dim=1)
    assert not p[:, 1:].any()
    assert draw_pixels(p, 50).unique().numel() > 5
    assert expected_importance_loss(p, torch.ones(1, 2)).isfinite()


def test_pooling_by_the_mean_leaves_the_background_out_and_by_the_maximum_does_not():
    logits, tags = made()
    changed = logits.detach().clone()
    changed[:, 0] -= 3
    losses = {p: [pooled_loss(x, tags, p) for x in (logits, changed)] for p in ("avg", "max")}
    assert losses["avg"][0] == losses["avg"][1]
    assert losses["max"][0] != losses["max"][1]
    certain = torch.zeros(1, 2, 2, 2)
    certain[:, 0, 0, 0] = certain[:, 1, 1, 1] = 50  # both are somewhere
    assert pooled_loss(certain, torch.ones(1, 1), "max") < 0.01
    assert pooled_loss(certain, torch.zeros(1, 1), "max") > 3


def test_equal_maps_of_any_scale_have_no_equivariance_loss():
    logits = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    large, small = logits.expand(1, 2, 9, 9), logits.expand(1, 2, 3, 4)
    certain = Maps(large, large).probabilities()
    same = equivariance_losses(certain, Maps(small, small).probabilities())
    assert [float(loss) for loss in same] == pytest.approx([0, 0], abs=1e-6)
    p = float(logits.softmax(dim=1)[0, 1, 0, 0])
    # one of four differs: two of four differences of ER, one of two of ECR
    other = Maps(small, torch.zeros_like(small)).probabilities()
    er, ecr = equivariance_losses(certain, other)
    assert (float(er), float(ecr)) == pytest.approx((2 * (p - 0.5), p - 0.5))


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_terms_of_any_share(share):
    torch.manual_seed(0)
    logits, tags = made()
    small, _ = made(1, (3, 3))
    params = LossParams(importance_weight=share, importance=EXPECTED)
    scales = Maps(logits, logits.flip(-1)), Maps(small, small.flip(-1))
    losses = map_losses(scales, tags, torch.rand(2, 3, 6, 7), params)
    assert ("loss_pooled" in losses) == (share < 1)
    assert ("loss_importance" in losses) == (share > 0)
    if 0 < share < 1:
        exact = sum(expected_importance_loss(m.plain.softmax(dim=1), tags) for m in scales)
        torch.testing.assert_close(losses["loss_importance"], share * exact)
        mean = sum(pooled_loss(m.plain, tags, "avg") for m in scales)
        torch.testing.assert_close(losses["loss_pooled"], (1 - share) * mean)
    without = replace(params, similarity=SimilarityParams(weight=0))
    rest = map_losses(scales, tags, torch.rand(2, 3, 6, 7), without)
    assert set(losses) - set(rest) == {"loss_similarity"}
