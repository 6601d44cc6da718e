from __future__ import annotations

import math

import pytest
import torch

from benchmarks.plain_similarity import plain_similarity
from wsis.layers import feature_similarity
from wsis.layers.feature_similarity import (
    colour_weight,
    colours_at,
    feature_similarity_loss,
    similarity_gradient,
)


def made(samples=2, classes=4, size=(9, 11), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(samples, classes, *size, generator=generator, dtype=dtype).mul(2).softmax(dim=1)
    return y.requires_grad_(), torch.rand(samples, 3, *size, generator=generator, dtype=dtype)


def loss_and_gradient(loss, y):
    return loss, *torch.autograd.grad(loss, y)


@pytest.mark.parametrize("block", [1, 400, 1 << 30])
@pytest.mark.parametrize(
    ("size", "sigma"),
    [((9, 11), 5.0), ((24, 3), 1.5), ((3, 20), 2.0), ((6, 5), None), ((1, 1), 5.0)],
)
def test_as_the_plain_form_in_blocks_of_any_size(block, size, sigma, monkeypatch):
    monkeypatch.setattr(feature_similarity, "BLOCK", block)
    y, x = made(3, size=size)
    found = loss_and_gradient(feature_similarity_loss(y, x, 2.5, sigma), y)
    expected = loss_and_gradient(plain_similarity(y, x, 2.5, sigma), y)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-7)


def test_each_sample_may_have_a_gaussian_of_its_own():
    y, x = made(2)
    sigmas = torch.tensor([[1.0, 1.0], [4.0, 4.0]])
    alone = [
        feature_similarity_loss(y[i : i + 1], x[i : i + 1], 2.5, s) for i, s in ((0, 1.0), (1, 4.0))
    ]
    torch.testing.assert_close(feature_similarity_loss(y, x, 2.5, sigmas), sum(alone) / 2)
    turned = feature_similarity_loss(y.mT, x.mT, 2.5, torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(
        feature_similarity_loss(y, x, 2.5, torch.tensor([[1.0, 3.0]])), turned
    )


def test_sign_and_scale():
    y, x = made(1)
    assert feature_similarity_loss(torch.full_like(y, 0.25), x) == pytest.approx(0, abs=1e-12)
    assert feature_similarity_loss(y, torch.full_like(x, 0.4)) > 0
    step, grey = torch.zeros_like(y), torch.zeros_like(x)
    step[:, 0, :, :5], step[:, 1, :, 5:], grey[..., :5] = 1, 1, 1
    assert feature_similarity_loss(step, grey) < 0
    twice = feature_similarity_loss(torch.cat([y, y]), torch.cat([x, x]))
    torch.testing.assert_close(twice, feature_similarity_loss(y, x))
    assert feature_similarity_loss(y[:0], x[:0]) == 0


def test_colour_weight():
    distance = torch.tensor([0, 1 / (1 + math.exp(2.5)), 1], dtype=torch.float64)
    expected = [math.tanh(2.5 + math.log(1e-5 / (1 + 1e-5))), 0, 1]
    assert colour_weight(distance.clone(), 2.5).tolist() == pytest.approx(expected, abs=2e-4)
    exact = (2.5 + ((distance + 1e-5) / (1 - distance + 1e-5)).log()).tanh()
    torch.testing.assert_close(colour_weight(distance, 2.5), exact)


def test_colours_are_those_of_the_image():
    colours = torch.rand(2, 3, 8, 8)
    mean, std = (
        torch.tensor([[[120.0]], [[110]], [[100]]]),
        torch.tensor([[[60.0]], [[57]], [[55]]]),
    )
    image = (255 * colours - mean) / std
    torch.testing.assert_close(colours_at(image, mean, std, (8, 8)), colours)
    assert colours_at(3 * image, mean, std, (5, 5)).aminmax() == (0, 1)
    torch.testing.assert_close(
        colours_at(image, mean, std, (3, 3))[..., -1, -1], colours[..., -1, -1]
    )


def test_half_precision_is_summed_in_full():
    y, x = made(dtype=torch.float32)
    half = y.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradient = loss_and_gradient(feature_similarity_loss(half, x), half)
    assert (loss.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    exact = similarity_gradient(x, half.detach().float(), 2.5, torch.full((1, 2), 5.0))
    torch.testing.assert_close(gradient.float(), 4 / 198 * exact, rtol=1e-2, atol=1e-6)


def test_nothing_of_the_pairs_is_kept():
    y, x = made(1, size=(16, 16), dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        feature_similarity_loss(y, x).backward()
    assert kept == [y.numel()]
    assert x.grad is None


def test_maps_of_another_size():
    y, x = made()
    with pytest.raises(ValueError, match=r"y is \(2, 4, 9, 11\), the colours are \(2, 3, 9, 10\)"):
        feature_similarity_loss(y, x[..., :-1])
