"""From ICAM's probabilities to the score maps of the classes that an image has, and their CRF versions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wsis.layers.dense_crf import DenseCRF, DenseCRFParams
from wsis.layers.seeds import normalised, power_background, strided_sum
from wsis.modeling.class_maps import maps_over_scales
from wsis.modeling.semantic_inference import Scorer

FLOOR = 1e-8
"""Smallest sum that probabilities are divided by."""


def condition(probabilities: Tensor, allowed: Tensor) -> Tensor:
    """Probabilities of what may be there, renormalised over the channels.

    Args:
        probabilities: (N, C + 1, h, w).
        allowed: broadcast against them, in [0, 1]: 1 for background and tags, or a map of each class's boxes.
    """
    kept = probabilities * allowed
    return kept / kept.sum(dim=1, keepdim=True).clamp_min(FLOOR)


def tag_mask(tags: Sequence[int], num_classes: int) -> Tensor:
    """(1, C + 1, 1, 1): 1 for the background and for each of the classes ``tags``."""
    mask = torch.zeros(1, num_classes + 1, 1, 1)
    mask[:, [0, *(tag + 1 for tag in tags)]] = 1
    return mask


def mean_maps(
    network: Scorer,
    image: Tensor,
    tags: Sequence[int],
    scales: Sequence[float],
    size: tuple[int, int],
    stride: int = 1,
) -> Tensor:
    """Mean over image sizes and mirror images of the maps of an image's classes, conditioned on them.

    Args:
        network: makes probabilities (N, C + 1, h', w').
        image: (3, h, w), normalised.
        tags: K classes, from 0.
        scales: factors of the image's size.
        size: height and width of the original image.
        stride: of the grid of the result, on which maps come without aligned corners.

    Returns:
        (K, H / stride, W / stride), sides rounded up, in [0, 1].
    """
    channels = [tag + 1 for tag in tags]

    def conditioned(images: Tensor) -> Tensor:
        probabilities = network(images)
        allowed = tag_mask(tags, probabilities.shape[1] - 1).to(probabilities)
        return condition(probabilities, allowed)[:, channels]

    maps = maps_over_scales(conditioned, image, scales)
    return strided_sum(maps, *size, stride) / (2 * len(scales))


def winners(maps: Tensor) -> Tensor:
    """Maps (K, H, W) of which each pixel keeps its best class, several if they are equal; then each class is divided by
    its largest value.
    """
    return normalised(maps * (maps == maps.amax(dim=0))) if len(maps) else maps


def crf_maps(
    image: np.ndarray, maps: Tensor, alphas: Sequence[float], params: DenseCRFParams
) -> list[np.ndarray]:
    """A dense CRF on the background score (1 - the best class)^alpha and the maps: the larger alpha, the less
    background.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: (K, H, W) in [0, 1], K at least 1.
        alphas: exponents.
        params: of the CRF.

    Returns:
        (1 + K, H, W) marginals of each exponent, background first.
    """
    crf = DenseCRF(image, params, len(maps) + 1)
    scores = [torch.cat([power_background(maps, alpha), maps]) for alpha in alphas]
    return [crf.infer(each.numpy()) for each in scores]
