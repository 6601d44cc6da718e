"""The joint objective: which head learns from which samples; predicted convolutions."""

import pytest
import torch
from torch.nn import functional as F

from wsis.layers.box_losses import cielab
from wsis.layers.feature_similarity import SimilarityParams, feature_similarity_loss
from wsis.methods.boxcaseg.config import TermParams
from wsis.methods.boxcaseg.losses import (
    box_terms,
    rgb,
    saliency_loss,
    upsample,
    weak_losses,
)
from wsis.methods.boxcaseg.network import WeightTransfer
from wsis.methods.boxcaseg.transforms import MEAN, STD


def test_upsampling_has_half_pixel_centres_and_comes_before_lines_are_looked_at():
    row = upsample(torch.tensor([0.0, 1.0])[None, None, None], (1, 4))
    assert row.flatten().tolist() == [0.0, 0.25, 0.75, 1.0]
    logits = torch.tensor([[8.0, 0], [0, 0]])[None, None]
    tightness, _ = weak_losses(logits, torch.zeros(1, 1, 4, 4))
    row = torch.tensor([8.0, 6.0, 2.0, 0.0])
    assert tightness.item() == pytest.approx(F.softplus(row).mean().item(), rel=1e-6)


def test_salient_samples_train_the_weak_head_too_and_smoothness_has_its_weight():
    logits, labels = torch.randn(3, 1, 4, 4, requires_grad=True), torch.rand(3, 1, 8, 8).round()
    for loss in weak_losses(logits, labels):
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert all(each.any() for each in gradient)
    once, twice = (weak_losses(logits, labels, weight)[1] for weight in (0.1, 0.2))
    assert twice.item() == pytest.approx(2 * once.item())


def test_saliency_is_cross_entropy_of_all_pixels():
    logits, labels = torch.randn(2, 1, 3, 3), torch.rand(2, 1, 12, 12).round()
    wide = F.interpolate(logits, scale_factor=4, mode="bilinear")
    expected = F.binary_cross_entropy(torch.sigmoid(wide), labels)
    assert saliency_loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_a_mask_does_not_know_teaches_the_full_head_nothing():
    logits, labels = torch.randn(2, 1, 12, 12), torch.rand(2, 1, 12, 12).round()
    known = torch.rand(2, 1, 12, 12) > 0.3
    expected = F.binary_cross_entropy_with_logits(logits[known], labels[known])
    loss = saliency_loss(logits, labels, known)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert saliency_loss(logits, labels, torch.zeros_like(known)).item() == 0


def test_without_salient_samples_there_is_no_saliency():
    logits = torch.randn(2, 1, 3, 3, requires_grad=True)
    loss = saliency_loss(logits[:0], torch.zeros(0, 1, 12, 12))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_the_bias_is_scaled_and_shifted_and_the_source_gets_no_gradient():
    transfer = WeightTransfer(3)
    weight, bias = torch.randn(5, 3, requires_grad=True), torch.randn(5, requires_grad=True)
    assert torch.equal(transfer(weight, bias)[1], bias)
    sum(part.square().sum() for part in transfer(weight, bias)).backward()
    assert weight.grad is None and bias.grad is None
    assert all(parameter.grad.any() for parameter in transfer.parameters())
    changed = {"k": torch.tensor([2.0]), "b": torch.tensor([1.0])}
    transfer.load_state_dict(transfer.state_dict() | changed)
    assert torch.allclose(transfer(weight, bias)[1], 2 * bias + 1)


def test_terms_without_a_weight_are_not_there_and_others_have_it():
    logits, labels = torch.randn(2, 1, 8, 8), torch.rand(2, 1, 16, 16).round()
    images = torch.rand(2, 3, 16, 16) / 10
    assert box_terms(logits, labels, images, TermParams()) == {}
    for key, name in (("outside_weight", "outside"), ("affinity_weight", "affinity")):
        once, twice = (box_terms(logits, labels, images, TermParams(**{key: w})) for w in (0.5, 1))
        assert list(once) == [f"loss_{name}"] and once[f"loss_{name}"] > 0
        assert twice[f"loss_{name}"] == pytest.approx(2 * once[f"loss_{name}"].item())


def normalised(pixels):
    return (pixels - torch.from_numpy(MEAN).view(3, 1, 1)) / torch.from_numpy(STD).view(3, 1, 1)


def test_masks_follow_the_colours_inside_of_their_box():
    """Bright from column 4 on, in a box of the columns 2 to 6 at half the labels' size."""
    pixels, labels = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    pixels[..., 8:], labels[..., 4:14] = 1, 1
    params = TermParams(similarity=SimilarityParams(weight=2.0))
    follows, beside = torch.full((2, 1, 1, 8, 8), -8.0)
    follows[..., 4:], beside[..., 5:] = 8, 8

    def found(logits):
        terms = box_terms(logits, labels, normalised(pixels), params)
        assert list(terms) == ["loss_similarity"]
        return terms["loss_similarity"]

    assert found(follows) < found(beside)
    small = torch.zeros(1, 3, 8, 8)
    small[..., 4:] = 1
    own = follows.sigmoid() * (torch.arange(8) >= 2) * (torch.arange(8) < 7)
    expected = 2 * feature_similarity_loss(torch.cat([own, 1 - own], 1), small)
    torch.testing.assert_close(found(follows), expected)
    logits = torch.randn(1, 1, 8, 8).requires_grad_()
    found(logits).backward()
    assert (logits.grad[0, 0].any(dim=0) == torch.tensor([0, 0, 1, 1, 1, 1, 1, 0]).bool()).all()


def test_colours_are_cielab():
    """White, black, and a red that every table has."""
    pixels = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]]).T.reshape(1, 3, 1, 3)
    found = cielab(rgb(normalised(pixels)))
    expected = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2]])
    assert torch.allclose(found[0, :, 0].T, expected, atol=0.05)
