"""Losses of boxes, against their sums written out."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from wsis.layers.box_losses import line_maxima, smoothness_loss, tightness_loss


class TestTightness:
    @pytest.mark.parametrize("value", [-3.0, 0.0, 2.0])
    def test_constant_map(self, value):
        labels = torch.zeros(1, 1, 7, 5)
        labels[:, :, 2:5, 1:5] = 1  # 3 of 7 rows, 4 of 5 columns
        loss = tightness_loss(torch.full((1, 1, 7, 5), value), labels)
        expected = 7 * math.log1p(math.exp(-value)) + 5 * math.log1p(math.exp(value))
        assert loss.item() == pytest.approx(expected / 12, rel=1e-6)

    def test_columns_come_first_and_count_like_rows(self):
        maps = torch.tensor([[1.0, 5, 2], [4, 3, 6]])[None, None]
        assert line_maxima(maps).tolist() == [[4, 5, 6, 5, 6]]
        logits, labels = torch.randn(2, 1, 6, 9), torch.rand(2, 1, 6, 9).round()
        turned = tightness_loss(logits.mT, labels.mT)
        assert torch.allclose(tightness_loss(logits, labels), turned)

    def test_the_first_of_equal_pixels_gets_the_gradient(self):
        logits, expected = torch.zeros(1, 1, 3, 4, requires_grad=True), torch.zeros(3, 4)
        tightness_loss(logits, torch.zeros(1, 1, 3, 4)).sum().backward()
        expected[0] += 0.5 / 7
        expected[:, 0] += 0.5 / 7
        assert torch.allclose(logits.grad[0, 0], expected)

    def test_soft_labels(self):
        labels = torch.tensor([[0.2, 0.7], [0.1, 0.4]])[None, None]
        logits = torch.tensor([[1.0, -1.0], [0.5, 2.0]])[None, None]
        bags = torch.tensor([1.0, 2.0, 1.0, 2.0]), torch.tensor([0.2, 0.7, 0.7, 0.4])
        expected = F.binary_cross_entropy_with_logits(*bags)
        assert tightness_loss(logits, labels).item() == pytest.approx(expected.item())

    def test_one_loss_per_sample_and_none_for_none(self):
        logits, labels = torch.randn(3, 1, 4, 5), torch.rand(3, 1, 4, 5)
        one_by_one = [tightness_loss(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
        assert torch.allclose(tightness_loss(logits, labels), torch.cat(one_by_one))
        assert tightness_loss(logits[:0], labels[:0]).shape == (0,)


def plain_smoothness(logits):
    """The mean over the pixels and their neighbours of one map, zeros around it."""
    s = F.pad(torch.sigmoid(logits), (1, 1, 1, 1))
    height, width = logits.shape
    terms = [
        (s[y, x] - s[y + dy, x + dx]) ** 2
        for y, x in itertools.product(range(1, height + 1), range(1, width + 1))
        for dy, dx in itertools.product((-1, 0, 1), repeat=2)
    ]
    return torch.stack(terms).sum() / (8 * height * width)


class TestSmoothness:
    @pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 1), (2, 2), (4, 6)])
    def test_every_pair_and_the_border(self, size):
        logits = torch.randn(2, 1, *size, dtype=torch.float64, requires_grad=True)
        loss = smoothness_loss(logits)
        expected = torch.stack([plain_smoothness(each[0]) for each in logits])
        assert torch.allclose(loss, expected.float(), atol=1e-7)
        found, wanted = (torch.autograd.grad(v.sum(), logits)[0] for v in (loss, expected))
        assert torch.allclose(found, wanted, atol=1e-7)

    def test_large_logits_stay_finite(self):
        logits = torch.tensor([[90.0, -90.0]])[None, None].half().requires_grad_()
        loss = smoothness_loss(logits).sum()
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()
