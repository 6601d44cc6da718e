"""The objective of an attribution mask.

    L = mean_o [ 1/2 mean_4 |t_o - t*_o| + 1/2 |p_o - p*_o| ]
        + lambda sum |M| + lambda_tv TV(M)

with t* and p* the regression and the probability of proposal o on the unchanged image. All
functions work on a batch of masks that may be zero-padded to one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsis.config.params import key
from wsis.config.rules import at_least

DIRECTION_WEIGHTS = (1.0, 1.0, 2.0, 2.0)
"""Of vertical, horizontal, main and anti-diagonal differences."""


@dataclass(frozen=True)
class ObjectiveParams:
    """Weights of the objective; the defaults are those for training images.

    Attributes:
        sparsity_weight: Weight lambda of the sum of the mask's cells. Each cell pulls alike, so with a larger stride,
            that is fewer cells, the mask shrinks less: keep lambda times the number of cells.
        tv_weight: Weight lambda_tv of the total variation.
        tv_power: Exponent beta of the total variation.
    """

    sparsity_weight: float = key(0.007, at_least(0), "LAMBDA")
    tv_weight: float = key(1e-4, at_least(0))
    tv_power: float = key(3.0, at_least(1), "TV_BETA")


def difference_powers(
    masks: Tensor, power: float, valid: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """|difference of neighbours|^power in four directions.

    Args:
        masks: (..., h, w) float.
        power: at least 1.
        valid: (..., h, w), 1 for cells, 0 for padding; pairs with padding give 0.

    Returns:
        Vertical (..., h-1, w), horizontal (..., h, w-1), main diagonal and anti-diagonal
        (..., h-1, w-1) neighbours.
    """
    top, bottom = slice(None, -1), slice(1, None)
    every = slice(None)
    pairs = (
        ((top, every), (bottom, every)),
        ((every, top), (every, bottom)),
        ((top, top), (bottom, bottom)),
        ((top, bottom), (bottom, top)),
    )
    out = []
    for first, second in pairs:
        difference = (masks[(..., *second)] - masks[(..., *first)]).abs() ** power
        if valid is not None:
            difference = difference * valid[(..., *second)] * valid[(..., *first)]
        out.append(difference)
    return out[0], out[1], out[2], out[3]


def total_variation(
    masks: Tensor, power: float = ObjectiveParams.tv_power, valid: Tensor | None = None
) -> Tensor:
    """TV(M): sums of neighbouring differences to a power, each diagonal direction counted twice.

    Args:
        masks: (..., h, w) float.
        power: beta, at least 1.
        valid: (..., h, w), 1 for cells, 0 for padding.

    Returns:
        (...), 0 for a mask of one cell.
    """
    parts = difference_powers(masks, power, valid)
    sums = torch.stack([part.sum(dim=(-2, -1)) for part in parts], dim=-1)
    return (sums * sums.new_tensor(DIRECTION_WEIGHTS)).sum(dim=-1)


def regulariser(masks: Tensor, params: ObjectiveParams, valid: Tensor | None = None) -> Tensor:
    """The part of the objective that looks at the mask alone.

    Args:
        masks: (..., h, w) float, padding 0.
        params: weights.
        valid: (..., h, w), 1 for cells, 0 for padding.

    Returns:
        (...) lambda sum |M| + lambda_tv TV(M).
    """
    variation = total_variation(masks, params.tv_power, valid)
    return params.sparsity_weight * masks.abs().sum(dim=(-2, -1)) + params.tv_weight * variation


def fidelity(scores: Tensor, deltas: Tensor, clean_scores: Tensor, clean_deltas: Tensor) -> Tensor:
    """How far the answer for each proposal has moved.

    Args:
        scores: (N,) probability of the class, in [0, 1].
        deltas: (N, 4) raw regression of the class, in the units of the box coder, not decoded.
        clean_scores, clean_deltas: the same on the unchanged image, without gradient.

    Returns:
        (N,) 1/2 mean_4 |t - t*| + 1/2 |p - p*|.
    """
    moved = (deltas - clean_deltas).abs().mean(dim=1)
    return 0.5 * moved + 0.5 * (scores - clean_scores).abs()


def mean_over_groups(counts: Sequence[int], like: Tensor) -> Tensor:
    """The matrix that turns values of all proposals into the mean of each box.

    Args:
        counts: proposals of each of B boxes, at least 1; a box's proposals stand together.
        like: gives type and device.

    Returns:
        (B, sum of counts), each row sums to 1.
    """
    rows = [like.new_full((1, count), 1 / count) for count in counts]
    return torch.block_diag(*rows)
