"""The losses of a training step, of image tags and of boxes alike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wsis.layers.tag_losses import TAG_LOSSES
from wsis.methods.bas.config import BASParams
from wsis.methods.bas.losses import region_scores, suppression
from wsis.methods.bas.network import BASNetwork


def training_losses(
    network: BASNetwork, features: Tensor, tags: Tensor, params: BASParams
) -> tuple[dict[str, Tensor], Tensor]:
    """The weighted losses.

    Args:
        network: in training mode.
        features: (B, C, h, w), tapped.
        tags: (B, K) multi-hot, one 1 in each row at least; of several one is drawn.
        params: of the losses.

    Returns:
        Losses by name, and the foreground maps (B, 1, H, W) of the drawn classes.
    """
    classes = torch.multinomial(tags, 1)
    found = network(features, classes[:, 0])
    logits, foreground = found.logits.float(), found.foreground.float()
    scores = logits.mean(dim=(2, 3))
    erased = found.erased.float().mean(dim=(2, 3)).gather(1, classes)
    share = suppression(scores.gather(1, classes), erased, params.outlier)
    losses = {
        "loss_cls": TAG_LOSSES[params.loss](scores, tags),
        "loss_suppression": share.mean(),
        "loss_area": params.area_weight * foreground.mean(),
    }
    if params.guidance_weight:
        guided = region_scores(logits, foreground, params.detach_guidance)
        guidance = functional.cross_entropy(guided, classes[:, 0])
        losses["loss_guidance"] = params.guidance_weight * guidance
    return losses, foreground
