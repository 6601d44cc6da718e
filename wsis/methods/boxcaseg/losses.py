"""The joint objective of box crops and salient images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wsis.layers.box_losses import (
    affinity_loss,
    cielab,
    outside_loss,
    smoothness_loss,
    tightness_loss,
)
from wsis.methods.boxcaseg.config import BoxCasegParams, TermParams
from wsis.methods.boxcaseg.transforms import MEAN, STD


def upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(N, 1, h, w) logits at the size of the labels, bilinear with half-pixel centres, float32."""
    return F.interpolate(logits.float(), size=tuple(size), mode="bilinear", align_corners=False)


def weak_losses(
    logits: Tensor, labels: Tensor, pairwise_weight: float = BoxCasegParams.pairwise_weight
) -> tuple[Tensor, Tensor]:
    """Losses of the weak head, on all samples, salient ones too.

    Args:
        logits: (N, 1, h, w), N at least 1.
        labels: (N, 1, H, W) in [0, 1], 1 inside of the box, or the mask of a salient image.
        pairwise_weight: factor of the second one.

    Returns:
        Tightness of the boxes, and smoothness; scalars, means over the samples.
    """
    upsampled = upsample(logits, labels.shape[-2:])
    tightness = tightness_loss(upsampled, labels).mean()
    return tightness, pairwise_weight * smoothness_loss(upsampled).mean()


def saliency_loss(logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Loss of the full head, on salient samples: cross-entropy, mean over samples and pixels.

    Args:
        logits: (M, 1, h, w).
        labels: (M, 1, H, W) masks in [0, 1].
        known: (M, 1, H, W) bool, the pixels that count; all where not given.

    Returns:
        Scalar; 0 with zero gradients where nothing counts.
    """
    if not len(logits):
        return logits.float().sum() * 0.0
    upsampled = upsample(logits, labels.shape[-2:])
    if known is None:
        return F.binary_cross_entropy_with_logits(upsampled, labels.float())
    weights = known.float() / known.sum().clamp(min=1)
    return F.binary_cross_entropy_with_logits(
        upsampled, labels.float(), weight=weights, reduction="sum"
    )


def box_terms(
    logits: Tensor, labels: Tensor, images: Tensor, params: TermParams
) -> dict[str, Tensor]:
    """Losses of boxes that are not BoxCaseg's own, those with a weight, by name.

    Args:
        logits: (N, 1, h, w), N at least 1.
        labels: (N, 1, H, W) in [0, 1], 1 inside of the box, or the mask of a salient image.
        images: (N, 3, H, W) of the "unified" normalisation.
        params: their weights.

    Returns:
        Scalars, means over the samples.
    """
    terms = {}
    if params.outside_weight:
        outside = outside_loss(upsample(logits, labels.shape[-2:]), labels).mean()
        terms["loss_outside"] = params.outside_weight * outside
    if params.affinity_weight or params.similarity.weight:
        size = logits.shape[-2:]
        colours = rgb(F.interpolate(images, size=size, mode="area"))
        inside = F.adaptive_max_pool2d(labels, size)
    if params.affinity_weight:
        loss = affinity_loss(logits, cielab(colours), inside).mean()
        terms["loss_affinity"] = params.affinity_weight * loss
    if params.similarity.weight:
        # outside of the box a mask is background, so that the box's border is no edge
        foreground = logits.float().sigmoid() * inside
        y = torch.cat([foreground, 1 - foreground], dim=1)
        terms["loss_similarity"] = params.similarity.loss(y, colours)
    return terms


def rgb(images: Tensor) -> Tensor:
    """(N, 3, h, w) of the "unified" normalisation to colours in [0, 1]."""
    mean, std = (torch.from_numpy(each).to(images).view(3, 1, 1) for each in (MEAN, STD))
    return (images.detach() * std + mean).clamp(0, 1)
