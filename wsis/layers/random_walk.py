"""Random walk of class scores along affinities of pairs (AffinityNet, Ahn and Kwak, CVPR 2018; IRNet, CVPR 2019).

A is symmetric with a diagonal of 1 and elsewhere 0 or the affinity of a pair, T = A^beta (element by element) with
columns that sum to 1, and scores s, a row per class, become s T^t. No N x N matrix is made: a cell has at most 2 D + 1
neighbours, so T is a stencil of as many coefficients per cell, and it is applied t times to the few maps at hand.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wsis.layers.affinity import pair_offsets, path_affinities


def pairs_of_window(affinity: Tensor, radius: int) -> Tensor:
    """Affinities of the source cells' pairs alone, as AffinityNet has them: cells without a pair stay alone.

    Args:
        affinity: (..., D, h, w), see :mod:`wsis.layers.affinity`.
        radius: of the pairs.

    Returns:
        (..., D, H, W), 0 where there is no pair.
    """
    side = radius - 1
    return functional.pad(affinity, (side, side, 0, side))


def pairs_of_edges(edge: Tensor, radius: int) -> Tensor:
    """Path affinities of all pairs in a grid, as IRNet has them.

    Args:
        edge: (H, W) in [0, 1].
        radius: of the pairs.

    Returns:
        (D, H, W), 0 where a pair would leave the grid.
    """
    side = radius - 1
    walled = functional.pad(edge, (side, side, 0, side), value=1.0)
    return path_affinities(walled[None], radius)[0]


def random_walk(scores: Tensor, affinity: Tensor, radius: int, beta: float, steps: int) -> Tensor:
    """s T^t for the maps of one image.

    As the columns of T sum to 1, a step is s(j) + sum_i T(i, j) (s(i) - s(j)); in this form the rounding errors of
    hundreds of steps in single precision do not add up.

    Args:
        scores: (K, H, W) float.
        affinity: (D, H, W) in [0, 1] of each cell with the one (dy, dx) further, 0 where there is no pair.
        radius: of the pairs.
        beta: exponent of the affinities; the larger, the less is passed between cells that are unlike.
        steps: t.

    Returns:
        (K, H, W) within the range of the scores; a cell without pairs keeps its own.
    """
    height, width = scores.shape[-2:]
    side = radius - 1
    windows: list[Tensor] = []
    spread = functional.pad(scores, (side, side, side, side))
    neighbours, centre = [], spread[:, side : side + height, side : side + width]
    weights = affinity.pow(beta)
    walled = functional.pad(weights, (side, side, side, side))
    for number, (dy, dx) in enumerate(pair_offsets(radius)):
        for sign, own in ((1, weights[number]), (-1, walled[number, side - dy :, side - dx :])):
            top, left = side + sign * dy, side + sign * dx
            neighbours.append(spread[:, top : top + height, left : left + width])
            windows.append(own[:height, :width])
    if not windows:
        return scores
    coefficients = torch.stack(windows)
    coefficients /= 1 + coefficients.sum(dim=0)
    gap, moved = torch.empty_like(scores), scores.clone()
    for _ in range(steps):
        for neighbour, coefficient in zip(neighbours, coefficients, strict=True):
            moved.addcmul_(torch.sub(neighbour, centre, out=gap), coefficient)
        centre.copy_(moved)
    return moved
