"""Affinities of pairs of cells on a grid, their labels and losses: AffinityNet (Ahn and Kwak, CVPR 2018) and IRNet
(Ahn, Cho and Kwak, CVPR 2019).

Pairs are told apart by their displacement (dy, dx), so that all pairs of one displacement are one shifted slice of the
grid against another: (N, D, h, w) holds for each of D displacements and each of h x w source cells the pair of that
cell with the one (dy, dx) further. Nothing is gathered; what a gradient needs is made again in the backward pass.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wsis.structures.pseudo_labels import IGNORE

EPS = 1e-5
"""Added to affinities in logarithms and to numbers of pairs."""

Offset = tuple[int, int]


class PairLabels(NamedTuple):
    """What is known of pairs: (N, D, h, w) bool each; a pair with a cell that is left out is in none of them.

    Attributes:
        background: both cells are background.
        foreground: both are of the same class.
        different: they are of two classes, of which one may be background.
    """

    background: Tensor
    foreground: Tensor
    different: Tensor


class AffinityLosses(NamedTuple):
    """Mean losses of the three kinds of pairs."""

    background: Tensor
    foreground: Tensor
    different: Tensor

    def total(self) -> Tensor:
        """Equal pairs count as much as different ones, and of the former both kinds the same."""
        return self.background / 4 + self.foreground / 4 + self.different / 2


@cache
def pair_offsets(radius: int) -> tuple[Offset, ...]:
    """The D displacements (dy, dx) shorter than a radius, of each pair once: downwards, or to the right in its row; dy
    rising, then dx.
    """
    reach = range(1 - radius, radius)
    return tuple(
        (dy, dx)
        for dy in range(radius)
        for dx in reach
        if (dy > 0 or dx > 0) and dy**2 + dx**2 < radius**2
    )


@cache
def path_cells(offset: Offset) -> tuple[Offset, ...]:
    """The cells from (0, 0) to a displacement, both included, that are less than 1 away from the line through them."""
    dy, dx = offset
    columns = range(min(dx, 0), max(dx, 0) + 1)
    return tuple(
        (y, x) for y in range(dy + 1) for x in columns if (dy * x - dx * y) ** 2 < dy**2 + dx**2
    )


def fitting_radius(radius: int, height: int, width: int) -> int:
    """The largest radius, at most the wanted one, of which a grid has a source cell; 1, without any pair, for a grid of
    less than 5 cells.
    """
    return max(1, min(radius, (min(height, width) - 1) // 2))


def at_offset(values: Tensor, offset: Offset, radius: int) -> Tensor:
    """What the source cells have at a displacement, as a view.

    Source cells are those from which all displacements stay in the grid: all but the last radius - 1 rows and the first
    and last radius - 1 columns.

    Args:
        values: (..., H, W).
        offset: (dy, dx), shorter than the radius, dy at least 0.
        radius: of the pairs.

    Returns:
        (..., h, w) with h = H - radius + 1 and w = W - 2 (radius - 1).

    Raises:
        ValueError: there is no source cell, see :func:`fitting_radius`.
    """
    height, width = values.shape[-2] - radius + 1, values.shape[-1] - 2 * (radius - 1)
    if min(height, width) < 1:
        raise ValueError(f"a grid {tuple(values.shape[-2:])} has no source cell of radius {radius}")
    top, left = offset[0], radius - 1 + offset[1]
    return values[..., top : top + height, left : left + width]


def pair_labels(label: Tensor, radius: int) -> PairLabels:
    """What a label map says of all pairs.

    Args:
        label: (N, H, W) integers, 0 = background, 255 = left out.
        radius: of the pairs.
    """
    here = at_offset(label, (0, 0), radius)[:, None]
    there = torch.stack([at_offset(label, each, radius) for each in pair_offsets(radius)], dim=1)
    known, equal = (here != IGNORE) & (there != IGNORE), here == there
    return PairLabels(equal & (here == 0), equal & known & (here > 0), known & ~equal)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """sum(values of the mask) / (size of the mask + 1e-5), over a whole batch; 0, with a graph, for an empty mask."""
    return (values * mask).sum() / (mask.sum() + EPS)


def affinity_losses(affinity: Tensor, labels: PairLabels) -> AffinityLosses:
    """-log(a + 1e-5) of equal pairs, -log(1 + 1e-5 - a) of different ones, each kind averaged over the batch.

    Args:
        affinity: (N, D, h, w) in [0, 1].
        labels: of the same pairs.
    """
    equal = -(affinity + EPS).log()
    return AffinityLosses(
        masked_mean(equal, labels.background),
        masked_mean(equal, labels.foreground),
        masked_mean(-(1 + EPS - affinity).log(), labels.different),
    )


class _PairDistances(torch.autograd.Function):
    """:func:`pair_distances`, one displacement after another in both directions."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, radius: int, expected: Tensor) -> Tensor:
        ctx.save_for_backward(values, expected)
        ctx.radius = radius
        here = at_offset(values, (0, 0), radius)
        offsets = pair_offsets(radius)
        out = values.new_empty(len(values), len(offsets), *here.shape[-2:])
        for number, offset in enumerate(offsets):
            there = at_offset(values, offset, radius)
            out[:, number] = (here - there).sub_(expected[number]).abs_().sum(dim=1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        values, expected = ctx.saved_tensors
        out = torch.zeros_like(values)
        here, out_here = (at_offset(each, (0, 0), ctx.radius) for each in (values, out))
        for number, offset in enumerate(pair_offsets(ctx.radius)):
            there = at_offset(values, offset, ctx.radius)
            signs = (here - there).sub_(expected[number]).sign_().mul_(gradient[:, number, None])
            out_here += signs
            at_offset(out, offset, ctx.radius).sub_(signs)
        return out, None, None


def pair_distances(values: Tensor, radius: int, expected: Tensor | None = None) -> Tensor:
    """sum_c |v_c(i) - v_c(j) - e_c| of all pairs (i, j).

    Args:
        values: (N, C, H, W).
        radius: of the pairs.
        expected: (D, C) what the difference should be for each displacement; None = 0.

    Returns:
        (N, D, h, w), differentiable once in the values.
    """
    if expected is None:
        expected = values.new_zeros(len(pair_offsets(radius)), values.shape[1])
    found: Tensor = _PairDistances.apply(values, radius, expected.to(values)[:, :, None, None])
    return found


def feature_affinities(features: Tensor, radius: int) -> Tensor:
    """exp(-mean_c |f_c(i) - f_c(j)|) of all pairs, AffinityNet's.

    Args:
        features: (N, C, H, W).
        radius: of the pairs.

    Returns:
        (N, D, h, w) in (0, 1].
    """
    return (-pair_distances(features, radius) / features.shape[1]).exp()


def displacement_losses(field: Tensor, labels: PairLabels, radius: int) -> tuple[Tensor, Tensor]:
    """IRNet's losses of a field that should point to the centre of the object that a cell belongs to.

    Two cells of an object differ in their displacements by what they lie apart, two of the background should not.

    Args:
        field: (N, 2, H, W): dy and dx of each cell.
        labels: of the pairs.
        radius: of the pairs.

    Returns:
        Mean over the foreground pairs of |d(i) - d(j) - (p(j) - p(i))| / 2, and over the background pairs of
        |d(i) - d(j)| / 2.
    """
    apart = torch.tensor(pair_offsets(radius))
    foreground = masked_mean(pair_distances(field, radius, apart), labels.foreground)
    background = masked_mean(pair_distances(field, radius), labels.background)
    return foreground / 2, background / 2


class _PathMaxima(torch.autograd.Function):
    """Largest value on the way of each pair; which cell has it is kept as one byte, and the gradient goes there."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, radius: int) -> Tensor:
        offsets = pair_offsets(radius)
        shape = (len(values), len(offsets), *at_offset(values, (0, 0), radius).shape[-2:])
        out, best = values.new_empty(shape), values.new_empty(shape, dtype=torch.uint8)
        for number, offset in enumerate(offsets):
            cells = torch.stack([at_offset(values, cell, radius) for cell in path_cells(offset)])
            out[:, number], best[:, number] = cells.max(dim=0)
        ctx.save_for_backward(best)
        ctx.radius, ctx.size = radius, values.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (best,) = ctx.saved_tensors
        number, height, width = ctx.size
        places = torch.arange(height * width, device=gradient.device).view(height, width)
        sources = at_offset(places, (0, 0), ctx.radius)
        out = gradient.new_zeros(number, height * width)
        for index, offset in enumerate(pair_offsets(ctx.radius)):
            steps = [y * width + x for y, x in path_cells(offset)]
            cells = sources + torch.tensor(steps, device=gradient.device)[best[:, index].long()]
            out.scatter_add_(1, cells.flatten(1), gradient[:, index].flatten(1))
        return out.view(ctx.size), None


def path_affinities(edge: Tensor, radius: int) -> Tensor:
    """1 - the largest edge on the way between two cells, IRNet's.

    Args:
        edge: (N, H, W) in [0, 1].
        radius: of the pairs.

    Returns:
        (N, D, h, w) in [0, 1], differentiable once in the edges.
    """
    largest: Tensor = _PathMaxima.apply(edge, radius)
    return 1 - largest
