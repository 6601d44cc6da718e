"""Background-aware pooling (spec 4.2, 4.3), for all boxes of a batch at once.

Nothing of C channels is sampled: cosines need one product map per query and the norm of each sample, and a pooled
feature is a weighted mean of the map's own pixels, see :mod:`wsis.layers.bilinear`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from wsis.config.params import key
from wsis.config.rules import at_least, at_least_below, pair
from wsis.layers.bilinear import (
    add_neighbour_gradient,
    channel_chunks,
    neighbour_sums,
    sample,
    sampled_square_norms,
)
from wsis.methods.bana.lattice import Lattice

EPS = 1e-12
_CHUNK = 128
"""Channels whose gradient is made at a time on a CPU."""


@dataclass(frozen=True)
class PoolingParams:
    """How boxes are pooled in training; ``aware``: with background attention.

    Attributes:
        grid_size: The features of the background are averaged in a grid of G x G cells, each of which becomes a query:
            G.
        roi_size: Rows and columns of the windows that a box is pooled into.
        align_corners: Boxes and sampling points share one convention. False repeats the original release, whose samples
            are up to half a feature pixel off.
        min_background: Share of background above which an image's boxes are pooled with attention.
    """

    aware: bool = True
    grid_size: int = key(4, at_least(1))
    roi_size: tuple[int, int] = key(
        (2, 2), pair("two numbers of at least 1", lambda rows, columns: min(rows, columns) >= 1)
    )
    align_corners: bool = key(True, name="ROI_ALIGN_CORNERS")
    min_background: float = key(0.125, at_least_below(0, 1))


class Pooled(NamedTuple):
    """What :func:`background_aware_pooling` makes.

    Attributes:
        windows: (K, windows, C) pooled features of the boxes, windows row by row.
        queries: (N, J, C); 0 for a cell without background.
        valid: (N, J) bool, the cell has background.
        attention: (T,) weight 1 - A of each point of the lattice.
    """

    windows: torch.Tensor
    queries: torch.Tensor
    valid: torch.Tensor
    attention: torch.Tensor


def grid_padding(height: int, width: int, grid: int) -> tuple[int, int, int, int]:
    """Zeros around a map so that both sides are multiples of ``grid``: left, right, top, bottom.

    An even number is shared by both ends, an odd one goes to the right or the bottom.
    """

    def ends(size: int) -> tuple[int, int]:
        need = -size % grid
        return (0, need) if need % 2 else (need // 2, need // 2)

    return (*ends(width), *ends(height))


def grid_cells(height: int, width: int, grid: int) -> torch.Tensor:
    """The cell, 0 to grid^2 - 1, that each pixel of a map lies in after :func:`grid_padding`; (height, width) int64."""
    left, right, top, bottom = grid_padding(height, width, grid)
    rows = (torch.arange(height) + top) // ((height + top + bottom) // grid)
    columns = (torch.arange(width) + left) // ((width + left + right) // grid)
    return rows[:, None] * grid + columns


def query_weights(mask: torch.Tensor, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What pixels count in the mean background feature of each cell: M / (S_j + eps), S_j = sum_cell M.

    Args:
        mask: (N, h, w) float, 1 = background, at the features' size.
        grid: G; J = G^2 cells.

    Returns:
        (N, J, h w) weights and (N, J) counts S.
    """
    cells = grid_cells(mask.shape[1], mask.shape[2], grid).flatten()
    weights = functional.one_hot(cells, grid**2).T.to(mask) * mask.flatten(1)[:, None]
    counts = weights.sum(dim=2)
    return weights / (counts[:, :, None] + EPS), counts


def background_attention(
    products: torch.Tensor, squares: torch.Tensor, valid: torch.Tensor, lattice: Lattice
) -> torch.Tensor:
    """A(p) = mean over the valid cells j of the point's image of ReLU(cos(r(p), q_j)).

    Args:
        products: (N h w, J) of all pixels' features with q_j / |q_j| of their image.
        squares: (N h w, 5), see :func:`wsis.layers.bilinear.neighbour_products`.
        valid: (N, J) bool; an image without any has A = 0.
        lattice: T points.

    Returns:
        (T,) in [0, 1].
    """
    norm = sampled_square_norms(squares, lattice.points).clamp(min=EPS**2).sqrt()
    cosines = functional.relu(sample(products, lattice.points) / norm[:, None])
    weights = valid / valid.sum(dim=1, keepdim=True).clamp(min=1)
    return (cosines * weights.index_select(0, lattice.image)).sum(dim=1)


def window_weights(
    attention: torch.Tensor, lattice: Lattice, images: int, pixels: int
) -> torch.Tensor:
    """What pixels count in z = sum_window a r / (sum_window a + eps), for all windows of all boxes.

    Args:
        attention: (T,) a of each point.
        lattice: T points of K boxes.
        images: N.
        pixels: h w.

    Returns:
        (N, rows, h w): the windows of an image's boxes; images with fewer boxes have rows of 0.
    """
    boxes, windows = len(lattice.row_of_box), lattice.windows
    chosen = attention.index_select(0, lattice.pair_point)
    totals = attention.new_zeros(boxes * windows).index_add(0, lattice.pair_window, chosen)
    chosen = chosen / (totals + EPS).index_select(0, lattice.pair_window)
    # corners count the pixels of all images
    first = (lattice.pair_row - lattice.image.index_select(0, lattice.pair_point)) * pixels
    place = lattice.points.corners.index_select(0, lattice.pair_point) + first[:, None]
    share = lattice.points.weights.index_select(0, lattice.pair_point) * chosen[:, None]
    rows = lattice.boxes_per_image * windows
    return (
        attention.new_zeros(images * rows * pixels)
        .index_add(0, place.flatten(), share.flatten())
        .view(images, rows, pixels)
    )


def windows_of_boxes(means: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """(N, C, rows) means of :func:`window_weights` to (K, windows, C)."""
    rows = means.mT.reshape(-1, lattice.windows, means.shape[1])
    return rows.index_select(0, lattice.row_of_box)


def pool_windows(features: torch.Tensor, attention: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """z = sum_window a r / (sum_window a + eps), for all windows of all boxes.

    Args:
        features: (N, C, h, w).
        attention: (T,) a of each point.
        lattice: T points of K boxes.

    Returns:
        (K, windows, C).
    """
    flat = features.flatten(2)
    weights = window_weights(attention, lattice, len(flat), flat.shape[2])
    return windows_of_boxes(torch.bmm(flat, weights.mT), lattice)


class _AwarePooling(torch.autograd.Function):
    """Queries, attention and means of windows, of features that enter by few products only.

    These are q = F M, s = d F with the directions d = q / |q|, the products of neighbours, and z = F W. W is made of s
    and the neighbours' products, which are small: its gradient is found by a graph of its own. The features' gradient
    is written once, from all products together.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        weights: torch.Tensor,
        weigh: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, C, h, w), (N, J, h w), and (N, J, h w) and (5, N, h w) to (T,) and (N, rows, h w); returns (N, C, J),
        (T,) and (N, C, rows).
        """
        flat = features.flatten(2)
        queries = torch.bmm(flat, weights.mT)
        norms = queries.norm(dim=1, keepdim=True).clamp_min(EPS)
        directions = queries / norms
        products = torch.bmm(directions.mT, flat)
        squares = neighbour_sums(flat, features.shape[3])
        with torch.enable_grad():
            small = products.requires_grad_(), squares.requires_grad_()
            attention, maps = weigh(*small)
        ctx.save_for_backward(features, weights, norms, directions)
        ctx.small = (*small, attention, maps)
        return queries, attention.detach(), torch.bmm(maps.detach(), flat.mT).mT

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        queries_slope: torch.Tensor,
        attention_slope: torch.Tensor,
        means_slope: torch.Tensor,
    ) -> tuple[torch.Tensor, None, None]:
        features, weights, norms, directions = ctx.saved_tensors
        products, squares, attention, maps = ctx.small
        flat = features.flatten(2)
        slopes = attention_slope, torch.bmm(means_slope.mT, flat)
        products_slope, squares_slope = torch.autograd.grad(
            (attention, maps), (products, squares), slopes, retain_graph=True
        )
        along = (products_slope * products.detach()).sum(dim=2)[:, None]  # slope of d, along d
        right = torch.cat([weights, products_slope, maps.detach()], dim=1)
        gradient = torch.empty_like(flat)
        for part in channel_chunks(flat, _CHUNK):
            slope = torch.bmm(flat[:, part], products_slope.mT) - directions[:, part] * along
            total = queries_slope[:, part] + slope / norms
            left = torch.cat([total, directions[:, part], means_slope[:, part]], dim=2)
            torch.bmm(left, right, out=gradient[:, part])
            add_neighbour_gradient(
                gradient[:, part], flat[:, part], squares_slope, features.shape[3]
            )
        return gradient.view_as(features), None, None


def background_aware_pooling(
    features: torch.Tensor,
    mask: torch.Tensor,
    lattice: Lattice,
    grid: int,
    min_background: float = PoolingParams.min_background,
    aware: bool = True,
) -> Pooled:
    """Pools the boxes of a batch.

    Args:
        features: (N, C, h, w).
        mask: (N, H, W) float, 1 = background, at the images' size.
        lattice: of the boxes.
        grid: G of the queries.
        min_background: share of background above which an image's boxes are pooled with attention.
        aware: False pools all boxes without attention ("GAP").
    """
    images, pixels = len(features), features[0, 0].numel()
    small = functional.interpolate(mask[:, None], size=features.shape[2:], mode="nearest")[:, 0]
    weights, counts = query_weights(small.to(features), grid)
    valid = counts > 0
    if not aware:
        attention = features.new_ones(len(lattice.image))
        queries = torch.bmm(weights, features.flatten(2).mT)
        return Pooled(pool_windows(features, attention, lattice), queries, valid, attention)
    enough = mask.mean(dim=(1, 2)) > min_background

    def weigh(products: torch.Tensor, squares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tables = products.mT.flatten(0, 1), squares.flatten(1).T.contiguous()
        found = background_attention(*tables, valid, lattice)
        attention = 1 - found * enough.index_select(0, lattice.image)
        return attention, window_weights(attention, lattice, images, pixels)

    queries, attention, means = _AwarePooling.apply(features, weights, weigh)
    return Pooled(windows_of_boxes(means, lattice), queries.mT, valid, attention)


def classification_targets(
    classes: torch.Tensor, windows: int, valid: torch.Tensor
) -> torch.Tensor:
    """The targets of all rows: each box's class for its windows, then background for the queries.

    Args:
        classes: (K,) int64, 1 = the first class.
        windows: per box.
        valid: (N, J) bool.

    Returns:
        (K windows + N J,) int64; -100 for a cell without background.
    """
    queries = torch.where(valid.flatten(), 0, -100).to(classes)
    return torch.cat([classes.repeat_interleave(windows), queries])


def mean_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the rows whose target is not -100; 0, with a graph, if there is none."""
    total = functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    return total / (targets != -100).sum().clamp(min=1)
