"""Losses of pixels with a label."""

import pytest
import torch

from wsis.layers.pixel_losses import dice_loss


def test_dice_of_masks_that_are_the_same_or_share_nothing():
    labels = torch.zeros(3, 1, 4, 5)
    labels[:2, :, :2] = 1
    logits = (2 * labels - 1) * 50
    logits[1] = -logits[1]
    loss = dice_loss(logits, labels)
    assert loss.tolist() == pytest.approx([0, 1 - 1 / 21, 0], abs=1e-6)


def test_dice_of_a_part_of_the_pixels():
    logits, labels = torch.randn(2, 1, 4, 5), torch.rand(2, 1, 4, 5).round()
    known = torch.arange(5) < 3
    part = dice_loss(logits[..., :3], labels[..., :3])
    whole = dice_loss(logits, labels, known=known.expand(2, 1, 4, 5))
    assert whole.tolist() == pytest.approx(part.tolist())


def test_dice_of_a_half_certain_mask_and_its_gradient():
    labels = torch.ones(1, 1, 2, 2)
    logits = torch.zeros(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    loss = dice_loss(logits, labels)
    assert loss.item() == pytest.approx(1 - 5 / 6)
    assert torch.autograd.gradcheck(
        lambda x: dice_loss(x, labels), logits, eps=1e-2, atol=1e-2, nondet_tol=1e-3
    )
