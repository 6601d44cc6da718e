"""Heads of DeepLab and the classifiers on top of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn import functional

_EPS = 1e-12
"""Smallest norm that a vector is divided by."""


def cosine_scores(features: Tensor, weight: Tensor) -> Tensor:
    """Cosine of every pixel's feature with every class's weight.

    The features are not normalised: the product is divided by their norm, which costs C instead of D channels.

    Args:
        features: (N, D, h, w).
        weight: (C, D).

    Returns:
        (N, C, h, w) in [-1, 1]; 0 where the feature is 0.
    """
    directions = functional.normalize(weight, dim=1, eps=_EPS)
    products = functional.conv2d(features, directions[:, :, None, None])
    return products / features.norm(dim=1, keepdim=True).clamp_min(_EPS)


class CosineClassifier(nn.Module):
    """A 1x1 classifier without bias whose scores are cosines; see :func:`cosine_scores`.

    Args:
        in_channels: D.
        num_classes: C.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, in_channels, 1, 1))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, h, w) to (N, C, h, w) in [-1, 1]."""
        return cosine_scores(features, self.weight[:, :, 0, 0])


class LinearClassifier(nn.Conv2d):
    """A 1x1 classifier with bias.

    Args:
        in_channels: D.
        num_classes: C.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, 1)
        nn.init.normal_(self.weight, std=0.01)


class LargeFOV(nn.Sequential):
    """DeepLab-V1's head for backbones without VGG-16's fc6 and fc7: a dilated 3x3 convolution, then a 1x1 one.

    Args:
        in_channels: of the features.
        out_channels: of both convolutions.
        rate: dilation, and padding, of the first.
        norm: makes a norm of so many channels, which then follows each convolution instead of its bias.
        dropout: share that is dropped: channels after each convolution, or, with norms, values after the last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rate: int = 12,
        norm: Callable[[int], nn.Module] | None = None,
        dropout: float = 0.5,
    ) -> None:
        layers: list[nn.Module] = []
        bias = norm is None
        for convolution in (
            nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate, bias=bias),
            nn.Conv2d(out_channels, out_channels, 1, bias=bias),
        ):
            c2_msra_fill(convolution)
            if norm is None:
                layers += [convolution, nn.ReLU(), nn.Dropout2d(dropout)]
            else:
                layers += [convolution, norm(out_channels), nn.ReLU()]
        super().__init__(*layers, *([] if norm is None else [nn.Dropout(dropout)]))


class AtrousSum(nn.Module):
    """3x3 convolutions of several dilations side by side, summed, then one ReLU.

    Classic DeepLab-V2 sums the branches' predictions; here features are summed, for one classifier on top.

    Args:
        in_channels: of the features.
        out_channels: of the sum.
        rates: dilation, and padding, of each branch.
    """

    def __init__(
        self, in_channels: int, out_channels: int, rates: Sequence[int] = (6, 12, 18, 24)
    ) -> None:
        super().__init__()
        branches = [
            nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate, bias=False)
            for rate in rates
        ]
        for branch in branches:
            nn.init.normal_(branch.weight, std=0.01)
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in, h, w) to (N, out, h, w), not negative."""
        total = self.branches[0](features)
        for branch in self.branches[1:]:
            total = total + branch(features)
        return total.relu()


def resize_scores(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corner pixels on corner pixels.

    Args:
        scores: (N, C, h, w).
        size: height and width of the result.

    Returns:
        (N, C, H, W).
    """
    return functional.interpolate(scores, size=size, mode="bilinear", align_corners=True)
