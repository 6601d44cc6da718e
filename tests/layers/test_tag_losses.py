"""Losses of image tags, against sums that are written out."""

import math

import pytest
import torch

from wsis.layers.tag_losses import TAG_LOSSES, exclusive_cross_entropy

SCORES = [[2.0, -1.0, 0.5, 3.0], [-40.0, 60.0, 0.0, 1.0], [0.3, 0.2, 0.1, 0.0]]
TAGS = [[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]


def binary(scores, tags):
    terms = [math.log1p(math.exp(-s if t else s)) for s, t in zip(scores, tags, strict=True)]
    return sum(terms) / len(terms)


def one(scores, tags):
    return math.log(sum(map(math.exp, scores))) - scores[tags.index(1)]


def exclusive(scores, tags):
    pairs = list(zip(scores, tags, strict=True))
    others = sum(math.exp(s) for s, t in pairs if not t)
    return sum(math.log(math.exp(s) + others) - s for s, t in pairs if t)


@pytest.mark.parametrize(
    ("name", "plain", "rows"),
    [
        ("soft_margin", binary, [0, 1, 2]),
        ("cross_entropy", one, [1, 2]),
        ("exclusive", exclusive, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_mean_over_images(name, plain, rows, dtype):
    scores, tags = (torch.tensor(each)[rows] for each in (SCORES, TAGS))
    found = TAG_LOSSES[name](scores.to(dtype), tags)
    expected = sum(plain(SCORES[row], TAGS[row]) for row in rows) / len(rows)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-3)


def test_an_image_of_all_or_of_no_class_adds_nothing():
    scores = torch.tensor(SCORES[:2], requires_grad=True)
    loss = exclusive_cross_entropy(scores, torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]))
    loss.backward()
    assert loss.item() == 0 and torch.equal(scores.grad, torch.zeros(2, 4))
