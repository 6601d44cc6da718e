"""From the masks of R raters on a window to one: votes, STAPLE, the best one.

A rater's vote for a pixel is 1 (inside), 0 (outside) or -1 (it says nothing). Raters vote in few patterns, so all that
depends on a pixel's votes alone is computed once for each pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from wsis.layers.iou import ratio

FIRST_GUESS = 0.9
"""Sensitivity and specificity of every rater that STAPLE starts from."""
RATE_FLOOR = 1e-6
"""Rates stay this far from 0 and 1, so that no single vote is a proof."""
MAX_STEPS, TOLERANCE = 200, 1e-7


class Fused(NamedTuple):
    """What a rule says of each pattern, or pixel.

    Attributes:
        inside: bool, the label.
        agreement: float from 0 to 1, how much speaks for the label.
    """

    inside: np.ndarray
    agreement: np.ndarray


class Patterns(NamedTuple):
    """The votes of a window, each combination once.

    Attributes:
        votes: (K, R) int8.
        pixels: (K,) int64, how many pixels have them.
        where: (h, w) int64, which of them a pixel has.
    """

    votes: np.ndarray
    pixels: np.ndarray
    where: np.ndarray


def patterns(votes: np.ndarray) -> Patterns:
    """The distinct combinations of votes: (R, h, w) int8 in -1, 0, 1."""
    codes = np.zeros(votes.shape[1:], dtype=np.int64)
    kinds = np.zeros((1, 0), dtype=np.int8)
    pixels = np.zeros(1, dtype=np.int64)
    for vote in votes:  # one rater more; what nobody votes is dropped at once
        codes = 3 * codes + vote + 1
        pixels = np.bincount(codes.ravel(), minlength=3 * len(kinds))
        kinds = np.hstack([kinds.repeat(3, axis=0), np.tile([[-1], [0], [1]], (len(kinds), 1))])
        seen = pixels > 0
        codes, kinds, pixels = (seen.cumsum() - 1)[codes], kinds[seen], pixels[seen]
    return Patterns(kinds.astype(np.int8), pixels, codes)


def vote_share(votes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the votes for inside.

    Args:
        votes: (K, R).
        weights: (R,) at least 0.

    Returns:
        (K,) float64; 0 where nobody with a weight votes.
    """
    return ratio((votes == 1) @ weights, (votes >= 0) @ weights)


def majority(seen: Patterns, weights: np.ndarray, fits: np.ndarray) -> Fused:
    """More than half of the votes; a tie is outside.

    Args:
        seen: K patterns of R raters.
        weights: (R,) above 0.
        fits: (R,) not looked at.
    """
    share = vote_share(seen.votes, weights)
    return Fused(share > 0.5, np.maximum(share, 1 - share))


def staple(seen: Patterns, weights: np.ndarray, fits: np.ndarray) -> Fused:
    """STAPLE (Warfield et al. 2004) with the share of votes for inside as prior of every pixel.

    Expectation: W = a / (a + b) with a = f prod_j p_j^d_j (1 - p_j)^(1 - d_j) and
    b = (1 - f) prod_j q_j^(1 - d_j) (1 - q_j)^d_j over the raters that vote. Maximisation: sensitivity
    p_j = sum W d_j / sum W and specificity q_j = sum (1 - W)(1 - d_j) / sum (1 - W) over the pixels that j votes on.

    Args:
        seen: K patterns of R raters.
        weights, fits: not looked at.

    Returns:
        Label and max(W, 1 - W).
    """
    belief, _, _ = staple_rates(seen)
    return Fused(belief > 0.5, np.maximum(belief, 1 - belief))


def staple_rates(seen: Patterns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W (K,), and the sensitivity p and specificity q (R,) that it was made with; see :func:`staple`."""
    inside, outside = (seen.votes == 1).astype(float), (seen.votes == 0).astype(float)
    yes, no = inside * seen.pixels[:, None], outside * seen.pixels[:, None]
    prior = np.clip(yes.sum() / max(yes.sum() + no.sum(), 1), RATE_FLOOR, 1 - RATE_FLOOR)
    p = q = np.full(seen.votes.shape[1], FIRST_GUESS)
    belief = np.zeros(len(seen.votes))
    for _ in range(MAX_STEPS):
        odds = np.log(prior / (1 - prior)) + inside @ np.log(p / (1 - q))
        odds = odds + outside @ np.log((1 - p) / q)
        before, belief = belief, 1 / (1 + np.exp(-odds.clip(-500, 500)))
        if np.abs(belief - before).max() < TOLERANCE:
            break
        p = _rate(belief @ yes, belief @ no)
        q = _rate((1 - belief) @ no, (1 - belief) @ yes)
    return belief, p, q


def _rate(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return ratio(right, right + wrong).clip(RATE_FLOOR, 1 - RATE_FLOOR)


def best(seen: Patterns, weights: np.ndarray, fits: np.ndarray) -> Fused:
    """The rater whose mask fits its box best, of equal ones the first; what it says nothing about is outside.

    Args:
        seen: K patterns of R raters.
        weights: (R,) above 0.
        fits: (R,) IoU of each mask's tight box with the given box.

    Returns:
        Its labels, and the share of the votes for them.
    """
    inside = seen.votes[:, fits.argmax()] == 1
    share = vote_share(seen.votes, weights)
    return Fused(inside, np.where(inside, share, 1 - share))


RULES: dict[str, Callable[[Patterns, np.ndarray, np.ndarray], Fused]] = {
    "vote": majority,
    "staple": staple,
    "best": best,
}
"""Of patterns of those raters that have a mask, their scores, and how well their tight boxes fit."""


def mean_iou(seen: Patterns, inside: np.ndarray) -> float:
    """Mean over the raters of the IoU of their mask with a label, on the pixels that they vote on.

    Args:
        seen: K patterns of R raters.
        inside: (K,) bool.
    """
    says, label = seen.votes == 1, inside[:, None]
    counted = seen.votes >= 0
    both, either = (seen.pixels @ (each & counted) for each in (says & label, says | label))
    return float(ratio(both, either).mean())
