"""The losses of stage 3: cross-entropy where two pseudo labels agree, and what is made of the rest.

Y_crf and Y_ret are two label maps of one image. Y is their common label, 255 where they differ. R is where Y is a
class; U, the unreliable region, is where they differ and Y_crf is a class. T scales the cosines before every softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from wsis.config.params import key
from wsis.config.rules import at_least, within
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.structures.pseudo_labels import IGNORE

_SMALLEST = 1e-12
"""Least D, and least share of the largest D."""


@dataclass(frozen=True)
class NoiseParams:
    """Constants of the losses.

    Attributes:
        temperature: T, above 0; here ``MODEL.SEGMENTOR.TEMPERATURE``.
        damping: Exponent gamma of the confidence sigma = (D_label / max D)^gamma, D = 1 + cosine.
        weight: Weight lambda of the loss where the labels differ (NAL, ER, BS).
        detach_confidence: The confidence is a constant for the gradient.
        bootstrap: Share beta of the label in the target of BS; the rest is the network's own prediction.
        bootstrap_hard: The prediction in the target of BS is one class instead of probabilities.
    """

    temperature: float = 20.0
    damping: float = key(7.0, at_least(0))
    weight: float = key(0.1, at_least(0), "LAMBDA")
    detach_confidence: bool = key(False, name="DETACH_SIGMA")
    bootstrap: float = key(0.95, within(0, 1))
    bootstrap_hard: bool = key(False)


def common_label(y_crf: torch.Tensor, y_ret: torch.Tensor) -> torch.Tensor:
    """Y: the label where both maps agree, else 255. Integer tensors of one shape."""
    return torch.where(y_crf == y_ret, y_crf, IGNORE)


def unreliable_region(label: torch.Tensor, y_crf: torch.Tensor) -> torch.Tensor:
    """U: Y is 255 and Y_crf is a class; bool."""
    return (label == IGNORE) & (y_crf != IGNORE)


def confidence(logits: torch.Tensor, y_crf: torch.Tensor, damping: float) -> torch.Tensor:
    """sigma = (D_{Y_crf} / max_c D_c)^gamma with D = 1 + logits.

    Args:
        logits: (N, C, H, W) cosines, without T.
        y_crf: (N, H, W) integers; what stands at 255 has no meaning.
        damping: gamma.

    Returns:
        (N, H, W) in (0, 1]; 1 where Y_crf is the class of the largest cosine.
    """
    target = y_crf.long().masked_fill(y_crf == IGNORE, 0)[:, None]
    own, largest = logits.gather(1, target)[:, 0], logits.amax(dim=1)
    # a cosine of -1 to all classes at once cannot say anything
    ratio = (1 + own) / (1 + largest).clamp_min(_SMALLEST)
    return ratio.clamp_min(_SMALLEST).pow(damping)


def pixel_losses(logits: torch.Tensor, label: torch.Tensor, temperature: float) -> torch.Tensor:
    """CE(T logits, label) of each pixel, 0 where the label is 255.

    Args:
        logits: (N, C, H, W) cosines.
        label: (N, H, W) integers.
        temperature: T.

    Returns:
        (N, H, W).
    """
    return functional.cross_entropy(
        temperature * logits, label.long(), ignore_index=IGNORE, reduction="none"
    )


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum(weights values) / sum(weights); 0, with a graph, where all weights are 0."""
    total = weights.sum()
    return (weights * values).sum() / torch.where(total > 0, total, 1.0)


def _terms(
    logits: torch.Tensor, y_crf: torch.Tensor, y_ret: torch.Tensor, params: NoiseParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """L_ce, the pixels' CE to Y_crf, and U. Y is Y_crf wherever it is a class, so one log-softmax serves R and U."""
    label = common_label(y_crf, y_ret)
    losses = pixel_losses(logits, y_crf, params.temperature)
    return (
        weighted_mean(losses, (label != IGNORE).to(losses)),
        losses,
        unreliable_region(label, y_crf),
    )


def cross_entropy(
    logits: torch.Tensor, label: torch.Tensor, params: NoiseParams
) -> dict[str, torch.Tensor]:
    """Mean CE over all pixels of a class.

    Args:
        logits: (N, C, H, W) cosines.
        label: (N, H, W) integers, 255 = left out.
        params: T.

    Returns:
        ``loss_ce``.
    """
    return {"loss_ce": mean_cross_entropy(logits, label, params.temperature)}


def baseline_loss(
    logits: torch.Tensor, y_crf: torch.Tensor, y_ret: torch.Tensor, params: NoiseParams
) -> dict[str, torch.Tensor]:
    """L_ce: mean CE over R. Arguments as :func:`noise_aware_loss`; ``loss_ce``."""
    return cross_entropy(logits, common_label(y_crf, y_ret), params)


def noise_aware_loss(
    logits: torch.Tensor, y_crf: torch.Tensor, y_ret: torch.Tensor, params: NoiseParams
) -> dict[str, torch.Tensor]:
    """L = L_ce + lambda L_wce with L_wce = sum_U sigma CE(T logits, Y_crf) / sum_U sigma.

    Args:
        logits: (N, C, H, W) cosines.
        y_crf: (N, H, W) integers, 255 = padding or void.
        y_ret: likewise.
        params: the constants.

    Returns:
        ``loss_ce`` and ``loss_wce``, the latter with lambda in it; the loss is their sum.
    """
    # crop by crop: on a CPU, maps of one crop are taken from memory that is at hand
    crops = list(zip(logits.split(1), y_crf.split(1), strict=True))
    losses = torch.cat([pixel_losses(*crop, params.temperature) for crop in crops])
    sigma = torch.cat([confidence(*crop, params.damping) for crop in crops])
    label = common_label(y_crf, y_ret)
    sigma = sigma * unreliable_region(label, y_crf)
    if params.detach_confidence:
        sigma = sigma.detach()
    return {
        "loss_ce": weighted_mean(losses, (label != IGNORE).to(losses)),
        "loss_wce": params.weight * weighted_mean(losses, sigma),
    }


def entropy_loss(
    logits: torch.Tensor, y_crf: torch.Tensor, y_ret: torch.Tensor, params: NoiseParams
) -> dict[str, torch.Tensor]:
    """L_ce + lambda mean_U(-sum_c p_c log p_c) with p = softmax(T logits).

    Arguments as :func:`noise_aware_loss`; ``loss_ce`` and ``loss_entropy``, the latter with lambda in it.
    """
    agreed, losses, unreliable = _terms(logits, y_crf, y_ret, params)
    log_p = (params.temperature * logits).log_softmax(dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    return {
        "loss_ce": agreed,
        "loss_entropy": params.weight * weighted_mean(entropy, unreliable.to(losses)),
    }


def bootstrapping_loss(
    logits: torch.Tensor, y_crf: torch.Tensor, y_ret: torch.Tensor, params: NoiseParams
) -> dict[str, torch.Tensor]:
    """L_ce + lambda mean_U CE(T logits, beta onehot(Y_crf) + (1 - beta) p), p = softmax(T logits) without gradient.

    With ``bootstrap_hard`` p is the one-hot predicted class. Arguments as :func:`noise_aware_loss`; ``loss_ce`` and
    ``loss_bootstrap``, the latter with lambda in it.
    """
    agreed, losses, unreliable = _terms(logits, y_crf, y_ret, params)
    log_p = (params.temperature * logits).log_softmax(dim=1)
    if params.bootstrap_hard:
        own = -log_p.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]
    else:
        own = -(log_p.detach().exp() * log_p).sum(dim=1)
    mixed = params.bootstrap * losses + (1 - params.bootstrap) * own
    return {
        "loss_ce": agreed,
        "loss_bootstrap": params.weight * weighted_mean(mixed, unreliable.to(losses)),
    }


Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, NoiseParams], dict[str, torch.Tensor]]

LOSSES: dict[str, Loss] = {
    "CE_CRF": lambda logits, y_crf, y_ret, params: cross_entropy(logits, y_crf, params),
    "CE_RET": lambda logits, y_crf, y_ret, params: cross_entropy(logits, y_ret, params),
    "BASELINE": baseline_loss,
    "NAL": noise_aware_loss,
    "ER": entropy_loss,
    "BS": bootstrapping_loss,
}
"""What ``MODEL.BANA_SEG.LOSS`` may say."""
