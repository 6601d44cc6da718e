"""Feature-similarity loss: alike colours nearby should be predicted alike, unlike ones should not (ICAM,
arXiv 2203.12459).

With x the colours, y the prediction and P the pixels of a map,

    L = -1/(N P) sum_n sum_ij g_ij q_ij |y_i - y_j|^2,
    q_ij = tanh(mu + log((d_ij + e) / (1 - d_ij + e))),    d_ij = mean_k |x_ik - x_jk|,
    g_ij = exp(-|r_i - r_j|^2 / 2 s^2) / (2 pi s^2).

W = g q does not depend on y, so L is a quadratic form in y: with D_i = sum_j W_ij its gradient is -4/(N P) (D y - W y),
and L = <y, gradient> / 2. W is made a block of rows at a time and never kept, and each pair is looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from wsis.config.params import REQUIRED, key
from wsis.config.rules import above, at_least

COLOUR_EPS = 1e-5
"""e of the colour term."""
REACH = 5.5
"""Rows further apart than so many standard deviations are left out: their weights sum to less than 4e-8 a pixel, so
that the loss differs by less than 1e-7."""
BLOCK = 1 << 19
"""About so many pairs of pixels are looked at together."""


def colours_at(image: Tensor, mean: Tensor, std: Tensor, size: tuple[int, int]) -> Tensor:
    """The colours of a normalised image at the size of a map.

    Args:
        image: (N, 3, H, W), (colour - mean) / std.
        mean, std: (3, 1, 1), on the scale of 0 to 255.
        size: height and width of the map; bilinear, corner pixels on corner pixels.

    Returns:
        (N, 3, h, w) in [0, 1].
    """
    small = functional.interpolate(image, size=size, mode="bilinear", align_corners=True)
    return ((small * std + mean) / 255).clamp(0, 1)


def colour_weight(distance: Tensor, mu: float) -> Tensor:
    """q: about -1 for equal colours and 1 for different ones, 0 at a distance of 1 / (1 + e^mu).

    tanh(mu + log r) is 1 - 2 / (e^(2 mu) r^2 + 1), which needs neither function.

    Args:
        distance: of colours, in [0, 1]; overwritten.
        mu: the larger, the smaller the distance from which colours are different.
    """
    alike = (1 + COLOUR_EPS) - distance
    alike.square_()
    unlike = distance.add_(COLOUR_EPS).square_().mul_(math.exp(2 * mu)).add_(alike)
    return alike.mul_(-2).div_(unlike).add_(1)


def _spatial_weights(sigma: Tensor, height: int, width: int) -> Tensor:
    """(n, w, 2 h - 1, w): g by column, difference of the rows (h - 1 = the same row) and other column; ``sigma`` (n, 2)
    in rows and columns.
    """
    rows = torch.arange(1 - height, height, dtype=sigma.dtype, device=sigma.device)
    columns = torch.arange(width, dtype=sigma.dtype, device=sigma.device)
    steps = columns[:, None] - columns
    down, right = sigma[:, :1], sigma[:, 1:, None]
    vertical = (-0.5 * (rows / down).square()).exp() / (2 * math.pi * down * right[..., 0])
    horizontal = (-0.5 * (steps / right).square()).exp()
    return vertical[:, None, :, None] * horizontal[:, :, None]


def _blocks(samples: int, height: int, width: int, reach: int) -> Iterator[tuple[slice, slice]]:
    """Samples and rows that are looked at together."""
    pairs = width * width * min(height, reach + 1)
    many = max(1, min(samples, BLOCK // pairs))
    few = max(1, BLOCK // (pairs * many))
    for start in range(0, samples, many):
        for row in range(0, height, few):
            yield slice(start, start + many), slice(row, min(row + few, height))


def similarity_gradient(colours: Tensor, y: Tensor, mu: float, sigma: Tensor | None) -> Tensor:
    """sum_j W_ij (y_j - y_i) for each pixel i.

    Args:
        colours: (N, 3, h, w) in [0, 1].
        y: (N, C, h, w), of the same type.
        mu: of the colour weight.
        sigma: (N, 2) or (1, 2) standard deviations of g, down and right, in cells; None = g is 1 / P.

    Returns:
        (N, C, h, w).
    """
    samples, channels, height, width = y.shape
    x = colours.flatten(2).mT.contiguous()
    # W [y, 1] gives W y and D
    values = torch.cat([y, torch.ones_like(y[:, :1])], dim=1).flatten(2).mT.contiguous()
    sums = torch.zeros_like(values)
    reach, spatial = height, None
    if sigma is not None:
        reach = min(height, math.ceil(REACH * float(sigma[:, 0].max())))
        spatial = _spatial_weights(sigma, height, width)
    for part, rows in _blocks(samples, height, width, reach):
        number = rows.stop - rows.start
        last = min(height, rows.stop + reach)
        own, seen = (slice(rows.start * width, end * width) for end in (rows.stop, last))
        weight = torch.cdist(x[part, own], x[part, seen], p=1).mul_(1 / x.shape[2])
        weight = colour_weight(weight, mu)
        if spatial is None:
            weight.mul_(1 / (height * width))
        else:
            of_rows = weight.unflatten(1, (number, width)).unflatten(3, (-1, width))
            near = spatial if len(spatial) == 1 else spatial[part]
            for row in range(number):
                first = height - 1 - row
                of_rows[:, row] *= near[:, :, first : first + last - rows.start]
        sums[part, own] += weight @ values[part, seen]
        beyond = weight[:, :, number * width :]
        sums[part, rows.stop * width : last * width] += beyond.mT @ values[part, own]
    out = sums[..., :channels] - sums[..., channels:] * values[..., :channels]
    return out.mT.unflatten(2, (height, width)).contiguous()


class _FeatureSimilarity(torch.autograd.Function):
    """Makes the gradient with the loss, and keeps nothing else."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, colours: Tensor, mu: float, sigma: Tensor | None) -> Tensor:
        exact = torch.promote_types(y.dtype, torch.float32)
        with torch.autocast(y.device.type, enabled=False):
            values = y.detach().to(exact)
            sigma = None if sigma is None else sigma.to(exact)
            gradient = similarity_gradient(colours.to(exact), values, mu, sigma)
            gradient *= 4 / max(1, y.shape[0] * y.shape[2] * y.shape[3])
        ctx.save_for_backward(gradient.to(y.dtype))
        return (values * gradient).sum() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return cotangent * gradient, None, None, None


def feature_similarity_loss(
    y: Tensor, colours: Tensor, mu: float = 2.5, sigma: float | Tensor | None = 5.0
) -> Tensor:
    """The loss of a batch; may be negative. No gradient goes to the colours.

    Args:
        y: (N, C, h, w) probabilities.
        colours: (N, 3, h, w) in [0, 1], see :func:`colours_at`.
        mu: of :func:`colour_weight`.
        sigma: of the Gaussian in cells of the map; (N, 2) = down and right of each sample; None = g is 1 / P.

    Returns:
        A scalar; 0 of an empty batch.

    Raises:
        ValueError: the maps have not the same size.
    """
    if y.shape[:1] + y.shape[2:] != colours.shape[:1] + colours.shape[2:]:
        raise ValueError(f"y is {tuple(y.shape)}, the colours are {tuple(colours.shape)}")
    if sigma is not None and not isinstance(sigma, Tensor):
        sigma = torch.full((1, 2), sigma, device=y.device)
    loss: Tensor = _FeatureSimilarity.apply(y, colours, mu, sigma)
    return loss


@dataclass(frozen=True)
class SimilarityParams:
    """The loss as a term of another one.

    Attributes:
        weight: Weight of the feature-similarity loss, by which predictions follow the edges of the colours (ICAM); 0 =
            without it.
        mu: How alike the colours are that should be predicted alike: those that differ by less than 1 / (1 + e^mu) of
            the range of values.
        sigma: Standard deviation of the loss's Gaussian, in cells of the map that it is taken on.
    """

    weight: float = key(REQUIRED, at_least(0))
    mu: float = key(2.5)
    sigma: float = key(5.0, above(0))

    def loss(self, y: Tensor, colours: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """The weighted loss; a Gaussian ``scale`` times as wide: a number, or (N, 2), down and right of each sample."""
        return self.weight * feature_similarity_loss(y, colours, self.mu, self.sigma * scale)
