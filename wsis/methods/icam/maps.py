"""From ICAM's probabilities to the score maps of the classes that an image has, their label and their CRF versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.layers.label_maps import mean_over_scales

FLOOR = 1e-8
"""Smallest sum that probabilities are divided by."""
EPS = 1e-5
"""Added to a class's maximum before its map is divided by it."""


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
    probabilities: Sequence[Tensor],
    mirrored: Sequence[bool],
    allowed: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Mean over image sizes and mirror images of the conditioned maps of the classes.

    Args:
        probabilities: of each, (1, C + 1, h, w), the mean of maps and refined maps.
        mirrored: whether it is of the mirror image.
        allowed: see :func:`condition`, of one image.
        size: height and width of the result; bilinear, corners not aligned.

    Returns:
        (C, H, W), background left out.
    """
    conditioned = [condition(each, allowed)[:, 1:] for each in probabilities]
    return mean_over_scales(conditioned, mirrored, size, align_corners=False)[0]


def winners(maps: Tensor) -> Tensor:
    """Maps (K, H, W) of which each pixel keeps its best class, several if they are equal, divided by (the maximum of
    its class + EPS).
    """
    if not len(maps):
        return maps
    kept = maps * (maps == maps.amax(dim=0))
    return kept / (kept.amax(dim=(1, 2), keepdim=True) + EPS)


def best_class(maps: Tensor, classes: Sequence[int]) -> Tensor:
    """(H, W) uint8: the class of the best of maps (K, H, W), 0 where 1 - their sum is not below it.

    Args:
        maps: of the classes that are there.
        classes: K labels, 1 .. C.
    """
    labels = torch.tensor([0, *classes], dtype=torch.uint8, device=maps.device)
    return labels[torch.cat([1 - maps.sum(dim=0, keepdim=True), maps]).argmax(dim=0)]


def background_score(maps: np.ndarray, alpha: float) -> np.ndarray:
    """(1 - the best class)^alpha of maps (K, H, W) in [0, 1]: (1, H, W)."""
    return (1 - maps.max(axis=0, keepdims=True, initial=0)) ** alpha


def crf_maps(
    image: np.ndarray, maps: np.ndarray, alpha: float, params: DenseCRFParams
) -> np.ndarray:
    """A dense CRF on the background score and the maps: the larger alpha, the less background.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: (K, H, W) in [0, 1].
        alpha: power of the background.
        params: of the CRF.

    Returns:
        (1 + K, H, W) marginals, background first; all background where there is no class.
    """
    scores = np.concatenate([background_score(maps, alpha), maps])
    return scores if len(scores) == 1 else dense_crf(image, scores, params)


def multi_scale(
    probabilities: Callable[[Tensor], Tensor],
    images: Sequence[Tensor],
    allowed: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """:func:`mean_maps` of an image at several sizes, each with its mirror image in one batch.

    Args:
        probabilities: the network: normalised images to (N, C + 1, h, w).
        images: (3, h, w) of each size.
        allowed: see :func:`condition`.
        size: of the result.
    """
    pairs = [probabilities(torch.stack([image, image.flip(-1)])) for image in images]
    maps = [half for both in pairs for half in both.split(1)]
    return mean_maps(maps, [False, True] * len(pairs), allowed.to(maps[0]), size)
