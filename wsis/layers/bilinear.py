"""Bilinear sampling without the channels: what is linear in the features is sampled after it, on few maps.

A bilinear sample of features at a point is a weighted sum of four neighbours, f(p) = sum_i w_i f_i. So its product with
a vector q is the sample of the map f . q; its squared norm is sum_ij w_i w_j f_i . f_j, of which five maps of products
between neighbours hold all; and a weighted sum of samples is one of the features, with the weights spread to the
neighbours (the adjoint of sampling). All of it is exact, and differentiable in features and weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd.function import FunctionCtx, once_differentiable


class BilinearPoints(NamedTuple):
    """T points between the pixels of maps of one size.

    Attributes:
        corners: (T, 4) int64 index of the upper left, upper right, lower left and lower right neighbour among all
            pixels of all maps, row by row.
        weights: (T, 4) float32; 0 for neighbours outside of the map, whose index is then of some pixel in it.
    """

    corners: torch.Tensor
    weights: torch.Tensor

    def to(self, device: torch.device | str) -> BilinearPoints:
        """On another device."""
        return BilinearPoints(
            self.corners.to(device, non_blocking=True), self.weights.to(device, non_blocking=True)
        )


def bilinear_points(
    y: torch.Tensor,
    x: torch.Tensor,
    size: tuple[int, int],
    image: torch.Tensor | None = None,
) -> BilinearPoints:
    """Neighbours and weights of points; what lies outside of the map is 0.

    Args:
        y, x: (T,) rows and columns; whole numbers are centres of pixels.
        size: height and width of the maps.
        image: (T,) int64, which of the maps a point lies in; None = there is one.
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
    if image is not None:
        corners = corners + image[:, None] * (height * width)
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
        table: (pixels, M) values of M maps.
        points: T points.

    Returns:
        (T, M).
    """
    rows = table.index_select(0, points.corners.flatten())
    return (rows.unflatten(0, (-1, 4)) * points.weights[:, :, None]).sum(dim=1)


def spread(values: torch.Tensor, points: BilinearPoints, pixels: int) -> torch.Tensor:
    """The adjoint of :func:`sample`: sum_p values(p) f(p) of samples f(p) is the sum of the result times f.

    Args:
        values: (T,).
        points: T points.
        pixels: number of pixels of all maps.

    Returns:
        (pixels,).
    """
    shares = (values[:, None] * points.weights).flatten()
    return values.new_zeros(pixels).index_add(0, points.corners.flatten(), shares)


_CHUNK = 32
"""Channels that are multiplied at a time on a CPU, so that the products stay in its cache."""


def channel_chunks(flat: torch.Tensor, size: int = _CHUNK) -> Iterator[slice]:
    """Slices of so many channels of (N, C, P) features on a CPU, whose cache holds them from one step to the next;
    elsewhere one of all channels.
    """
    channels = flat.shape[1]
    size = size if flat.device.type == "cpu" else channels
    return (slice(start, start + size) for start in range(0, channels, size))


def _neighbours(pixels: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Both pixels of each of the five products, row after row; where a row ends the next one's first pixel stands for
    the right neighbour.
    """
    for one, other in ((0, 0), (0, 1), (0, width), (0, width + 1), (1, width)):
        number = max(pixels - max(one, other), 0)
        yield slice(one, one + number), slice(other, other + number)


def _without_row_ends(products: torch.Tensor, width: int) -> torch.Tensor:
    """(5, N, P), in place: 0 where a pixel has no right neighbour."""
    products[[1, 3, 4], :, width - 1 :: width] = 0
    return products


def neighbour_sums(flat: torch.Tensor, width: int) -> torch.Tensor:
    """What :func:`neighbour_products` makes, without a graph.

    Args:
        flat: (N, C, P) features of P pixels, row by row.
        width: pixels in a row.

    Returns:
        (5, N, P); each product stands at the smaller row and column of its two pixels.
    """
    out = flat.new_zeros(5, len(flat), flat.shape[2])
    for chunk in channel_chunks(flat):
        part = flat[:, chunk]
        for total, (one, other) in zip(out, _neighbours(flat.shape[2], width), strict=True):
            product = (part[..., one] * part[..., other]).sum(dim=1)
            total[:, : product.shape[1]] += product
    return _without_row_ends(out, width)


def add_neighbour_gradient(
    out: torch.Tensor, flat: torch.Tensor, gradient: torch.Tensor, width: int
) -> None:
    """Adds the features' gradient of :func:`neighbour_sums`: each of the two pixels gets the other's feature times the
    product's gradient.

    Args:
        out: (N, C, P), changed in place.
        flat: (N, C, P).
        gradient: (5, N, P) of the products.
        width: pixels in a row.
    """
    gradient = _without_row_ends(gradient.clone(memory_format=torch.contiguous_format), width)
    gradient[0] *= 2
    for chunk in channel_chunks(flat):
        part, result = flat[:, chunk], out[:, chunk]
        pairs = _neighbours(flat.shape[2], width)
        for number, (own, (one, other)) in enumerate(zip(gradient, pairs, strict=True)):
            a, b = part[..., one], part[..., other]
            own = own[:, None, : a.shape[2]]
            result[..., one].addcmul_(b, own)
            if number:
                result[..., other].addcmul_(a, own)


class _NeighbourProducts(torch.autograd.Function):
    """Five sums over the channels without a product of the features' size, forward and backward."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(features)
        return neighbour_sums(features.flatten(2), features.shape[3])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (features,) = ctx.saved_tensors
        out = torch.zeros_like(features, memory_format=torch.contiguous_format)
        add_neighbour_gradient(out.flatten(2), features.flatten(2), gradient, features.shape[3])
        return out


def neighbour_products(features: torch.Tensor) -> torch.Tensor:
    """Inner products of each pixel's feature with itself and its neighbours.

    Args:
        features: (N, C, h, w).

    Returns:
        (N h w, 5): with itself, the right, the lower and the lower right neighbour, and of the right with the lower
        one; 0 where a neighbour is missing.
    """
    return _NeighbourProducts.apply(features).flatten(1).T.contiguous()


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
