"""The joint objective: which head learns from which samples."""

import pytest
import torch
from torch.nn import functional as F

from wsis.methods.boxcaseg.losses import saliency_loss, upsample, weak_losses


def test_upsampling_has_half_pixel_centres():
    row = upsample(torch.tensor([0.0, 1.0])[None, None, None], (1, 4))
    assert row.flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


def test_lines_are_looked_at_after_upsampling():
    logits = torch.zeros(1, 1, 2, 2)
    logits[0, 0, 0, 0] = 8.0
    tightness, _ = weak_losses(logits, torch.zeros(1, 1, 4, 4))
    row = torch.tensor([8.0, 6.0, 2.0, 0.0])
    assert tightness.item() == pytest.approx(F.softplus(row).mean().item(), rel=1e-6)


def test_salient_samples_train_the_weak_head_too():
    logits = torch.randn(3, 1, 4, 4, requires_grad=True)
    labels = torch.rand(3, 1, 8, 8).round()
    for loss in weak_losses(logits, labels):
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert all(each.any() for each in gradient)


def test_smoothness_has_its_weight():
    logits, labels = torch.randn(2, 1, 4, 4), torch.zeros(2, 1, 8, 8)
    once, twice = (weak_losses(logits, labels, weight)[1] for weight in (0.1, 0.2))
    assert twice.item() == pytest.approx(2 * once.item())


def test_saliency_is_cross_entropy_of_all_pixels():
    logits, labels = torch.randn(2, 1, 3, 3), torch.rand(2, 1, 12, 12).round()
    wide = F.interpolate(logits, scale_factor=4, mode="bilinear")
    expected = F.binary_cross_entropy(torch.sigmoid(wide), labels)
    assert saliency_loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_salient_samples_there_is_no_saliency():
    logits = torch.randn(2, 1, 3, 3, requires_grad=True)
    loss = saliency_loss(logits[:0], torch.zeros(0, 1, 12, 12))
    assert loss.item() == 0
    loss.backward()
    assert not logits.grad.any()
