"""Losses of a classifier of image tags."""

from __future__ import annotations

import torch
from torch.nn import functional


def soft_margin(scores: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Mean over images and classes of the binary cross-entropy (CAM's classifier, ICAM).

    Args:
        scores: (N, C) logits.
        tags: (N, C), 1 for each class of the image, else 0.
    """
    return functional.multilabel_soft_margin_loss(scores.float(), tags.float())


def one_tag_cross_entropy(scores: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Mean over images of the cross-entropy of images that have one tag each (BAS, localisation).

    Args:
        scores: (N, C) logits.
        tags: (N, C) multi-hot; each row has one 1.
    """
    return functional.cross_entropy(scores.float(), tags.float())


def exclusive_cross_entropy(scores: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Mean over images of the sum over their tags p of -log(e^s_p / (e^s_p + sum of e^s_n over the classes n that the
    image lacks)): no tag stands in another one's denominator (BAS, semantic seeds).

    Args:
        scores: (N, C) logits.
        tags: (N, C) multi-hot; an image with all classes, or with none, adds 0.
    """
    scores, present = scores.float(), tags > 0
    others = scores.masked_fill(present, -torch.inf).logsumexp(dim=1, keepdim=True)
    return (functional.softplus(others - scores) * present).sum(dim=1).mean()


TAG_LOSSES = {
    "soft_margin": soft_margin,
    "cross_entropy": one_tag_cross_entropy,
    "exclusive": exclusive_cross_entropy,
}
"""By the names that config keys have for them."""
