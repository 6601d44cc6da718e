"""Losses of boxes, against their sums written out."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from wsis.layers.box_losses import (
    affinity_loss,
    cielab,
    line_maxima,
    outside_loss,
    projection_loss,
    smoothness_loss,
    tightness_loss,
)


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


class TestProjection:
    @pytest.mark.parametrize("value", [-3.0, 0.0, 2.0])
    def test_constant_map(self, value):
        labels = torch.zeros(2, 1, 7, 5)
        labels[0, :, 2:5, 1:5] = 1  # 3 of 7 rows, 4 of 5 columns; the second box has no cell
        found = projection_loss(torch.full((2, 1, 7, 5), value), labels)
        s = 1 / (1 + math.exp(-value))
        dice = [1 - 2 * s * inside / (s * s * size + inside) for inside, size in ((3, 7), (4, 5))]
        assert found.tolist() == pytest.approx([sum(dice), 2], abs=2e-3)

    def test_the_box_itself_costs_nothing_and_neither_does_a_diagonal(self):
        labels = torch.zeros(1, 1, 8, 8)
        labels[..., 2:6, 2:6] = 1
        diagonal = torch.diag(torch.tensor([0.0, 0, 1, 1, 1, 1, 0, 0]))
        for mask in (labels, diagonal.expand(1, 1, 8, 8)):
            assert projection_loss(40 * mask - 20, labels).item() == pytest.approx(0, abs=1e-6)
        shifted = projection_loss(40 * labels.roll(2, dims=3) - 20, labels)
        assert shifted.item() == pytest.approx(0.5, abs=1e-5)  # half of the columns

    def test_gradients(self):
        logits = torch.randn(2, 1, 4, 6, dtype=torch.float64, requires_grad=True)
        labels = torch.zeros(2, 1, 4, 6)
        labels[:, :, 1:3, 1:5] = 1
        projection_loss(logits, labels).sum().backward()
        lines = torch.zeros(2, 1, 4, 6, dtype=torch.bool)
        for dim in (2, 3):
            lines |= logits == logits.amax(dim=dim, keepdim=True)
        assert not logits.grad[~lines].any() and logits.grad[lines].all()
        outside = labels == 0
        outside[:, :, 1:3] = outside[..., 1:5] = False  # no line through it meets the box
        assert (logits.grad[outside] >= 0).all() and (logits.grad[labels == 1] <= 0).all()


def test_colours_of_cielab():
    pixels = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]]).T[None, :, None]
    expected = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]).T
    assert torch.allclose(cielab(pixels)[0, :, 0], expected, atol=0.02)


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


class TestOutside:
    def test_it_is_the_mean_outside_and_has_no_gradient_inside(self):
        logits, labels = torch.randn(2, 1, 5, 6, requires_grad=True), torch.zeros(2, 1, 5, 6)
        labels[0, :, 1:3, 2:6] = 1
        labels[1] = 0.5
        loss = outside_loss(logits, labels)
        outside = labels[0] == 0
        expected = F.binary_cross_entropy_with_logits(logits[0][outside], torch.zeros(22))
        assert loss.tolist() == pytest.approx([expected.item(), 0])
        loss.sum().backward()
        share = torch.sigmoid(logits.detach()[0]) / 22 * outside
        assert torch.allclose(logits.grad[0], share) and not logits.grad[1].any()


def plain_affinity(logits, colours, inside, distance, scale, threshold):
    """The mean over pairs, written out, of one map."""
    s, terms = torch.sigmoid(logits), []
    height, width = logits.shape
    places = list(itertools.product(range(height), range(width)))
    for p, q in itertools.combinations(places, 2):
        apart = {abs(p[0] - q[0]), abs(p[1] - q[1])}
        alike = torch.exp(-(colours[:, *p] - colours[:, *q]).norm() / scale) >= threshold
        if apart in ({distance}, {0, distance}) and alike and (inside[p] or inside[q]):
            terms.append(-torch.log(s[p] * s[q] + (1 - s[p]) * (1 - s[q])))
    return torch.stack(terms).mean() if terms else logits.sum() * 0


class TestAffinity:
    @pytest.mark.parametrize("size", [(2, 2), (3, 5), (6, 4)])
    @pytest.mark.parametrize(("distance", "threshold"), [(1, 0.3), (2, 0.3), (2, 0.9)])
    def test_it_is_the_mean_over_edges_of_one_colour(self, size, distance, threshold):
        logits = torch.randn(2, 1, *size, dtype=torch.float64, requires_grad=True)
        colours, labels = torch.randint(0, 3, (2, 3, *size)), torch.rand(2, 1, *size).round()
        keys = {"distance": distance, "scale": 2.0, "threshold": threshold}
        found = affinity_loss(logits, colours.double(), labels, **keys)
        expected = torch.stack(
            [
                plain_affinity(logits[i, 0], colours[i].double(), labels[i, 0] != 0, **keys)
                for i in range(2)
            ]
        )
        assert torch.allclose(found, expected.float(), atol=1e-6)
        a, b = (torch.autograd.grad(v.sum(), logits)[0] for v in (found, expected))
        assert torch.allclose(a, b, atol=1e-6)

    def test_two_colours_are_two_regions(self):
        """Certain labels cost nothing where they change with the colour, and the logit where not."""
        colours, labels = torch.zeros(1, 3, 4, 6), torch.ones(1, 1, 4, 6)
        colours[..., 3:] = 50.0
        right, wrong = torch.full((2, 1, 4, 6), -20.0).chunk(2)
        right, wrong = right.clone(), wrong.clone()
        right[..., 3:] = 20.0
        wrong[..., 1] = 20.0
        assert affinity_loss(right, colours, labels).item() == pytest.approx(0, abs=1e-6)
        assert affinity_loss(wrong, colours, labels, distance=1).item() > 5

    def test_large_logits_stay_finite_and_no_edge_is_no_loss(self):
        logits = torch.full((1, 1, 4, 4), 200.0, requires_grad=True)
        affinity_loss(logits, torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4)).sum().backward()
        assert logits.grad.isfinite().all()
        for colours, labels in ((torch.zeros, torch.zeros), (torch.randn, torch.ones)):
            far = 1e3 * colours(1, 3, 4, 4)
            assert affinity_loss(logits, far, labels(1, 1, 4, 4)).item() == 0
        assert affinity_loss(logits[..., :2], far[..., :2], labels(1, 1, 4, 2)).item() == 0


def test_projection_and_affinity_alone_find_a_disc():
    """The two losses of a box and the warm-up, nothing else, teach which of two colours is the object's."""
    places = torch.stack(torch.meshgrid(*[torch.arange(28.0)] * 2, indexing="ij"))
    disc = (places - 14).square().sum(dim=0) <= 81
    bright = disc.float().expand(1, 1, 28, 28)
    box = torch.zeros(1, 1, 28, 28)
    box[..., 5:24, 5:24] = 1
    classifier = torch.nn.Conv2d(1, 1, 1)
    for parameter in classifier.parameters():
        torch.nn.init.zeros_(parameter)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=0.1)
    colours = (20 + 40 * bright).expand(1, 3, 28, 28)
    for step in range(200):
        optimiser.zero_grad()
        logits = classifier(bright)
        affinity = min(step / 100, 1) * affinity_loss(logits, colours, box)
        loss = projection_loss(logits, box) + affinity
        loss.sum().backward()
        optimiser.step()
    assert torch.equal(logits[0, 0] > 0, disc) and loss.item() < 0.1
