"""The feature-similarity loss in the plain way: all pairs of pixels at once, differentiated by autograd."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wsis.layers.feature_similarity import COLOUR_EPS


def plain_similarity(y: Tensor, colours: Tensor, mu: float, sigma: float | None) -> Tensor:
    """As :func:`wsis.layers.feature_similarity.feature_similarity_loss`."""
    samples, _, height, width = y.shape
    x, values = colours.flatten(2), y.flatten(2)
    distance = (x[:, :, :, None] - x[:, :, None]).abs().mean(dim=1)
    ratio = (distance + COLOUR_EPS) / (1 - distance + COLOUR_EPS)
    near: Tensor | float = 1 / (height * width)
    if sigma is not None:
        places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).to(y)
        apart = (places[:, None] - places).square().sum(dim=2)
        near = (-apart / (2 * sigma**2)).exp() / (2 * math.pi * sigma**2)
    weight = near * torch.tanh(mu + ratio.log())
    norms = values.square().sum(dim=1)
    differences = norms[:, :, None] + norms[:, None] - 2 * values.mT @ values
    return -(weight * differences).sum() / (samples * height * width)
