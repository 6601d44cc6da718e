"""Bilinear sampling, and what is linear or quadratic in its samples without taking them.

A bilinear sample of features at a point is a weighted sum of four neighbours, f(p) = sum_i w_i f_i. So its product with
a vector q is the sample of the map f . q; its squared norm is sum_ij w_i w_j f_i . f_j, of which five maps of products
between neighbours hold all; and a weighted sum of samples is one of the features, with the weights spread to the
neighbours (the adjoint of sampling). All of it is exact, and differentiable in features and weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional


class BilinearPoints(NamedTuple):
    """T points between the pixels of a map.

    Attributes:
        corners: (T, 4) int64 index of the upper left, upper right, lower left and lower right neighbour among the
            map's pixels, row by row.
        weights: (T, 4) float32; 0 for neighbours outside of the map, whose index is then of some pixel in it.
    """

    corners: torch.Tensor
    weights: torch.Tensor

    def to(self, device: torch.device | str) -> BilinearPoints:
        """On another device."""
        return BilinearPoints(
            self.corners.to(device, non_blocking=True), self.weights.to(device, non_blocking=True)
        )


def bilinear_points(y: torch.Tensor, x: torch.Tensor, size: tuple[int, int]) -> BilinearPoints:
    """Neighbours and weights of points; what lies outside of the map is 0.

    Args:
        y, x: (T,) rows and columns; whole numbers are centres of pixels.
        size: height and width of the map.
    """
    height, width = size
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    rows = torch.stack([top, top, top + 1, top + 1], dim=1).long()
    columns = torch.stack([left, left + 1, left, left + 1], dim=1).long()
    weights = torch.stack([1 - down, 1 - down, down, down], dim=1) * torch.stack(
        [1 - right, right, 1 - right, right], dim=1
    )
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    corners = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    return BilinearPoints(corners, (weights * inside).float())


def grid_points(size: tuple[int, int], map_size: tuple[int, int]) -> BilinearPoints:
    """The points at which a map is sampled when it is enlarged, corner pixels on corner pixels.

    Args:
        size: height and width of the enlarged map.
        map_size: of the map.

    Returns:
        One point per pixel, row by row.
    """
    y, x = (
        torch.arange(n, dtype=torch.float64) * ((m - 1) / max(n - 1, 1))
        for n, m in zip(size, map_size, strict=True)
    )
    return bilinear_points(y.repeat_interleave(size[1]), x.repeat(size[0]), map_size)


def sample(table: torch.Tensor, points: BilinearPoints) -> torch.Tensor:
    """Values at points.

    Args:
        table: (pixels, M) values of M maps, or channels of one.
        points: T points.

    Returns:
        (T, M).
    """
    weights = points.weights.to(table)
    return functional.embedding_bag(points.corners, table, per_sample_weights=weights, mode="sum")


def spread(values: torch.Tensor, points: BilinearPoints, pixels: int) -> torch.Tensor:
    """The adjoint of :func:`sample`: sum_p values(p) f(p) of samples f(p) is the sum of the result times f.

    Args:
        values: (T,).
        points: T points.
        pixels: number of the map's pixels.

    Returns:
        (pixels,).
    """
    shares = (values[:, None] * points.weights).flatten()
    return values.new_zeros(pixels).index_add(0, points.corners.flatten(), shares)


_CHUNK = 32
"""Channels that are multiplied at a time, so that on a CPU the products stay in its cache."""


def neighbour_products(features: torch.Tensor) -> torch.Tensor:
    """Inner products of each pixel's feature with itself and its neighbours.

    Args:
        features: (C, h, w).

    Returns:
        (h w, 5): with itself, the right, the lower and the lower right neighbour, and of the right with the lower
        one; 0 where a neighbour is missing.
    """
    out = features.new_zeros(5, *features.shape[1:])
    for f in features.split(_CHUNK):
        left, right, top, bottom = f[:, :, :-1], f[:, :, 1:], f[:, :-1], f[:, 1:]
        diagonals = (top[:, :, :-1], bottom[:, :, 1:]), (top[:, :, 1:], bottom[:, :, :-1])
        pairs = (f, f), (left, right), (top, bottom), *diagonals
        for number, (a, b) in enumerate(pairs):
            out[number, : a.shape[1], : a.shape[2]] += (a * b).sum(dim=0)
    return out.flatten(1).T.contiguous()


def sampled_square_norms(products: torch.Tensor, points: BilinearPoints) -> torch.Tensor:
    """|f(p)|^2 of samples f(p), from :func:`neighbour_products`.

    Args:
        products: (pixels, 5).
        points: T points.

    Returns:
        (T,), at least 0.
    """
    rows = products.index_select(0, points.corners.flatten()).unflatten(0, (-1, 4))
    a, b, c, d = points.weights.unbind(dim=1)
    own = (rows[:, :, 0] * points.weights.square()).sum(dim=1)
    beside = a * b * rows[:, 0, 1] + c * d * rows[:, 2, 1]
    below = a * c * rows[:, 0, 2] + b * d * rows[:, 1, 2]
    across = a * d * rows[:, 0, 3] + b * c * rows[:, 0, 4]
    return (own + 2 * (beside + below + across)).clamp(min=0)
