"""Features as if they were enlarged to the image's size, without ever being so (see :mod:`wsis.layers.bilinear`)."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor
from torch.nn import functional

from wsis.layers.bilinear import (
    grid_points,
    neighbour_products,
    sample,
    sampled_square_norms,
    spread,
)

EPS = 1e-12


class Enlarged:
    """A feature map f(p), bilinearly enlarged, corner pixels on corner pixels.

    Enlarging is linear: it is done to the few maps that are asked for instead of to all channels.

    Args:
        features: (C, h, w) float32.
        size: height and width of the enlarged map.
    """

    def __init__(self, features: Tensor, size: tuple[int, int]) -> None:
        self.features = features
        self.size = size
        self.points = grid_points(size, (features.shape[1], features.shape[2]))

    @cached_property
    def norms(self) -> Tensor:
        """|f(p)|, (H, W), at least 1e-12."""
        square = sampled_square_norms(neighbour_products(self.features), self.points)
        return square.sqrt().clamp(min=EPS).view(self.size)

    def products(self, vectors: Tensor) -> Tensor:
        """v . f(p): (M, C) to (M, H, W)."""
        table = (vectors @ self.features.flatten(1)).T.contiguous()
        return sample(table, self.points).T.reshape(-1, *self.size)

    def cosines(self, vectors: Tensor) -> Tensor:
        """cos(v, f(p)): (M, C) to (M, H, W); 0 where either is 0."""
        return self.products(functional.normalize(vectors, dim=1, eps=EPS)) / self.norms

    def mean(self, mask: Tensor) -> Tensor:
        """Mean of f over the pixels of a mask: (H, W) bool to (C,); 0 for an empty mask."""
        flat = self.features.flatten(1)
        weights = spread(mask.flatten().float(), self.points, flat.shape[1])
        return flat @ (weights / (mask.sum() + EPS))
