"""Votes, STAPLE and the best one: closed forms, and STAPLE against the paper's equations pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from wsis.methods.fusion.rules import FIRST_GUESS, RULES, mean_iou, patterns, staple_rates

RNG = np.random.default_rng(5)
TRUTH = np.zeros((12, 15), dtype=np.int8)
TRUTH[3:9, 4:11] = 1


def noisy(share, rng=RNG):
    """The truth with a share of its pixels turned."""
    return np.where(rng.random(TRUTH.shape) < share, 1 - TRUTH, TRUTH).astype(np.int8)


def fuse(rule, *votes, weights=None, fits=None):
    """Label and agreement of each pixel."""
    seen = patterns(np.stack(votes))
    n = len(votes)
    fused = RULES[rule](
        seen,
        np.ones(n) if weights is None else np.array(weights),
        np.zeros(n) if fits is None else np.array(fits),
    )
    return fused.inside[seen.where], fused.agreement[seen.where]


def test_patterns_are_the_votes_again():
    votes = RNG.integers(-1, 2, (4, 12, 15)).astype(np.int8)
    seen = patterns(votes)
    assert np.array_equal(seen.votes[seen.where].transpose(2, 0, 1), votes)
    assert seen.pixels.sum() == 180 and len(np.unique(seen.votes, axis=0)) == len(seen.votes) <= 81


@pytest.mark.parametrize("rule", RULES)
def test_who_agree_are_right(rule):
    inside, agreement = fuse(rule, TRUTH, TRUTH, TRUTH)
    assert np.array_equal(inside, TRUTH == 1) and agreement.min() > 0.999


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [0, 1])
def test_a_window_that_is_wholly_in_or_out(rule, value):
    inside, agreement = fuse(rule, *[np.full((3, 4), value, dtype=np.int8)] * 2)
    assert (inside == bool(value)).all() and agreement.min() > 0.999


def test_a_vote_has_the_weight_of_its_score():
    one, none = np.ones((1, 1), np.int8), np.zeros((1, 1), np.int8)
    for weights, label, share in (
        ((0.9, 0.3, 0.3), True, 0.6),
        ((0.5, 0.3, 0.3), False, 6 / 11),
        ((0.4, 0.2, 0.2), False, 0.5),
    ):
        inside, agreement = fuse("vote", one, none, none, weights=weights)
        assert (inside.item(), agreement.item()) == (label, pytest.approx(share))
    silent = np.full((1, 1), -1, np.int8)
    inside, agreement = fuse("vote", one, silent, none, weights=(0.6, 9, 0.2))
    assert inside.item() and agreement.item() == pytest.approx(0.75)
    assert not fuse("vote", silent, silent)[0].item()


def plain_staple(votes, steps):
    """Warfield et al., equations 18 to 25, a loop over pixels and raters."""
    f = votes[votes >= 0].mean()
    p, q = [FIRST_GUESS] * len(votes), [FIRST_GUESS] * len(votes)
    flat = votes.reshape(len(votes), -1).T
    for _ in range(steps):
        belief = []
        for pixel in flat:
            a, b = f, 1 - f
            for j, vote in enumerate(pixel):
                a *= {1: p[j], 0: 1 - p[j]}.get(vote, 1)
                b *= {1: 1 - q[j], 0: q[j]}.get(vote, 1)
            belief.append(a / (a + b))
        belief = np.array(belief)
        for j in range(len(votes)):
            voted = flat[:, j] >= 0
            w, d = belief[voted], flat[voted, j]
            p[j], q[j] = (w * d).sum() / w.sum(), ((1 - w) * (1 - d)).sum() / (1 - w).sum()
    return belief.reshape(votes.shape[1:]), p, q


def test_staple_is_the_papers():
    votes = np.stack([noisy(0.1), noisy(0.2), noisy(0.3), noisy(0.25)])
    votes[1, :4] = votes[3, :, 10:] = -1
    belief, p, q = plain_staple(votes, 400)
    seen = patterns(votes)
    found, sensitivity, specificity = staple_rates(seen)
    assert np.abs(found[seen.where] - belief).max() < 1e-5
    assert np.abs(sensitivity - p).max() < 1e-5 and np.abs(specificity - q).max() < 1e-5


def test_staple_finds_who_is_right():
    """Two who agree are the truth; the third's rates are then those of its errors."""
    third = noisy(0.3)
    seen = patterns(np.stack([TRUTH, third, TRUTH]))
    belief, p, q = staple_rates(seen)
    assert np.array_equal(belief[seen.where] > 0.5, TRUTH == 1)
    assert p == pytest.approx([1, third[TRUTH == 1].mean(), 1], abs=1e-3)
    assert q == pytest.approx([1, 1 - third[TRUTH == 0].mean(), 1], abs=1e-3)


def test_staple_trusts_a_good_rater_more_than_three_bad_ones():
    """Votes do not: errors of a half are no knowledge, and three of them outvote one who knows."""
    rng = np.random.default_rng(1)
    bad = [noisy(0.4, rng) for _ in range(3)]
    good = [noisy(0.02, rng), noisy(0.02, rng)]
    by_staple, by_vote = (
        (fuse(rule, *bad, *good)[0] == TRUTH).mean() for rule in ("staple", "vote")
    )
    assert by_staple > 0.97 > 0.95 > by_vote


def test_a_filled_box_tells_staple_nothing():
    votes = [noisy(0.05, np.random.default_rng(i)) for i in range(3)]
    inside, _ = fuse("staple", *votes)
    with_box, _ = fuse("staple", *votes, np.ones_like(TRUTH))
    assert (inside == with_box).mean() > 0.97 and (inside == TRUTH).mean() > 0.97


def test_the_best_fits_its_box_and_others_agree_or_not():
    one, other = noisy(0.1), noisy(0.2)
    inside, agreement = fuse("best", one, other, weights=(0.75, 0.25), fits=(0.5, 0.6))
    assert np.array_equal(inside, other == 1)
    assert np.allclose(agreement, np.where(one == other, 1, 0.25))
    assert np.array_equal(fuse("best", one, other, fits=(0.6, 0.6))[0], one == 1)


def test_the_mean_overlap_is_on_pixels_that_have_a_vote():
    votes = np.zeros((2, 2, 4), np.int8)
    votes[0, 0], votes[1] = 1, [[1, 1, 0, 0], [1, 0, 0, -1]]
    seen = patterns(votes)
    label = np.zeros((2, 4), dtype=bool)
    label[0] = label[1, 3] = True
    inside = np.zeros(len(seen.votes), dtype=bool)
    inside[seen.where[label]] = True
    assert mean_iou(seen, inside) == pytest.approx((4 / 5 + 2 / 5) / 2)
