"""The network of ICAM's maps: a classifier of pixels, and maps refined by how alike pixels are (SEAM's PCM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torch.nn import functional

from wsis.errors import ConfigError
from wsis.layers.deeplab import resize_scores
from wsis.methods.icam.losses import Maps
from wsis.modeling.weight_names import own_names

EPS = 1e-5
"""Added to norms and sums that are divided by."""
TAPS = 3
"""Maps of the backbone that are used: two for the correlation, then one for the classifier."""


def pixel_correlation(features: Tensor) -> Tensor:
    """Cosines of the features of all pairs of pixels, negative ones 0: (N, D, h, w) to (N, P, P)."""
    columns = features.flatten(2)
    columns = columns / (columns.norm(dim=1, keepdim=True) + EPS)
    return functional.relu(columns.mT @ columns)


def refine(logits: Tensor, features: Tensor) -> Tensor:
    """Each pixel's logits become the mean of all, weighted with :func:`pixel_correlation`.

    Args:
        logits: (N, K, h', w'), of which the gradient is not stopped.
        features: (N, D, h, w).

    Returns:
        (N, K, h, w).
    """
    size = (features.shape[2], features.shape[3])
    if logits.shape[2:] != size:
        logits = resize_scores(logits, size)
    alike = pixel_correlation(features)
    sums = alike.sum(dim=1, keepdim=True) + EPS
    return (logits.flatten(2) @ alike / sums).unflatten(2, size)


def last_maps(backbone: Backbone) -> tuple[list[str], list[ShapeSpec]]:
    """Names and shapes of the three maps that the networks stand on.

    Raises:
        ConfigError: the backbone has less.
    """
    shapes = backbone.output_shape()
    names = list(shapes)[-TAPS:]
    if len(names) < TAPS:
        raise ConfigError(
            f"MODEL.BACKBONE.NAME: {TAPS} maps are needed, found {', '.join(shapes)} (MODEL.TIMM.OUT_INDICES)"
        )
    return names, [shapes[name] for name in names]


class CamNetwork(nn.Module):
    """Backbone, classifier "fc8" and pixel correlation "f8_3", "f8_4", "f9"; all without biases.

    Args:
        backbone: its last three maps are used; the first two of them are detached.
        num_classes: C, background not included.
        channels: of the features of the first two maps.
        dropout: share of the channels of the last map that are dropped in training.
        gain: of the classifier's initial weights.

    Raises:
        ConfigError: the backbone has less than three maps.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        channels: tuple[int, int],
        dropout: float,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.taps, shapes = last_maps(backbone)
        low, middle, high = (shape.channels for shape in shapes)
        self.drop = nn.Dropout2d(dropout)
        self.fc8 = nn.Conv2d(high, num_classes + 1, 1, bias=False)
        self.f8_3 = nn.Conv2d(low, channels[0], 1, bias=False)
        self.f8_4 = nn.Conv2d(middle, channels[1], 1, bias=False)
        self.f9 = nn.Conv2d(3 + sum(channels), sum(channels), 1, bias=False)
        nn.init.xavier_uniform_(self.fc8.weight, gain)
        nn.init.kaiming_normal_(self.f8_3.weight)
        nn.init.kaiming_normal_(self.f8_4.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def correlation_features(
        self, images: Tensor, low: Tensor, middle: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Of images (N, 3, H, W) and two maps of the backbone: (N, D, h, w)."""
        parts = [
            images,
            functional.relu(self.f8_3(low.detach())),
            functional.relu(self.f8_4(middle.detach())),
        ]
        return self.f9(torch.cat([resize_scores(part, size) for part in parts], dim=1))

    def placed(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Weights elsewhere have these very names."""
        return own_names(self, weights)

    def forward(self, images: Tensor) -> Maps:
        """Normalised images (N, 3, H, W) to their maps, float32."""
        maps = self.backbone(images)
        # cosines and their sums over thousands of pixels are not for half precision
        with torch.autocast(images.device.type, enabled=False):
            low, middle, high = (maps[name].float() for name in self.taps)
            logits = self.fc8(self.drop(high))
            size = (logits.shape[2], logits.shape[3])
            features = self.correlation_features(images.float(), low, middle, size)
            return Maps(logits, refine(logits, features))
