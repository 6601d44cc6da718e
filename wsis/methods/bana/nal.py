"""The losses of stage 3: cross-entropy where two pseudo labels agree, and what is made of the rest (spec 6).

Y_crf and Y_ret are two label maps of one image. Y is their common label, 255 where they differ. R is where Y is a
class; U, the unreliable region, is where they differ and Y_crf is a class. T scales the cosines before every softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from wsis.config.params import key
from wsis.config.rules import at_least, within
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
    return _sigma(logits.gather(1, target), logits.amax(dim=1, keepdim=True), damping)[:, 0]


def _sigma(own: torch.Tensor, largest: torch.Tensor, damping: float) -> torch.Tensor:
    return _ratio(own, largest).clamp_min(_SMALLEST).pow(damping)


def _ratio(own: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """D_own / D_largest; a cosine of -1 to all classes at once cannot say anything."""
    return (1 + own) / (1 + largest).clamp_min(_SMALLEST)


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
    losses = pixel_losses(logits, label, params.temperature)
    return {"loss_ce": weighted_mean(losses, (label != IGNORE).to(losses))}


def baseline_loss(
    logits: torch.Tensor, y_crf: torch.Tensor, y_ret: torch.Tensor, params: NoiseParams
) -> dict[str, torch.Tensor]:
    """L_ce: mean CE over R. Arguments as :func:`noise_aware_loss`; ``loss_ce``."""
    return cross_entropy(logits, common_label(y_crf, y_ret), params)


class _NoiseAware(torch.autograd.Function):
    """L_ce and lambda L_wce of all pixels from one softmax, which becomes the gradient in its place.

    With a = 1 + x_y, b = 1 + max x and sigma = (a / b)^gamma, for a pixel of U: d L_wce / d sigma = (CE - L_wce) / sum
    sigma, d sigma / d x_y = gamma sigma / a, d sigma / d max x = -gamma sigma / b.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        y_crf: torch.Tensor,
        label: torch.Tensor,
        params: NoiseParams,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        agreed, unreliable = label != IGNORE, unreliable_region(label, y_crf)
        target = y_crf.long().masked_fill(y_crf == IGNORE, 0)[:, None]
        largest, best = logits.max(dim=1, keepdim=True)
        own = logits.gather(1, target)
        softmax = (logits - largest).mul_(params.temperature).exp_()
        total = softmax.sum(dim=1, keepdim=True)
        losses = (total.log() + params.temperature * (largest - own))[:, 0]
        sigma = _sigma(own, largest, params.damping)[:, 0] * unreliable
        number, mass = agreed.sum().clamp_min(1).to(losses), sigma.sum()
        mass = torch.where(mass > 0, mass, 1.0)
        loss_ce = (losses * agreed).sum() / number
        loss_wce = (losses * sigma).sum() / mass

        share = params.weight / mass
        weights = params.temperature * torch.where(unreliable, share * sigma, agreed / number)
        gradient = softmax.div_(total)
        gradient.scatter_add_(1, target, torch.full_like(own, -1.0))
        gradient.mul_(weights[:, None])
        if not params.detach_confidence:
            slope = (share * params.damping * (losses - loss_wce) * sigma)[:, None]
            slope = slope * (_ratio(own, largest) > _SMALLEST)
            gradient.scatter_add_(1, target, slope / (1 + own).clamp_min(_SMALLEST))
            gradient.scatter_add_(1, best, -slope / (1 + largest).clamp_min(_SMALLEST))
        ctx.save_for_backward(gradient, unreliable)
        return loss_ce, params.weight * loss_wce

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, ce_slope: torch.Tensor, wce_slope: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        gradient, unreliable = ctx.saved_tensors
        return (
            gradient * torch.where(unreliable, wce_slope, ce_slope)[:, None],
            None,
            None,
            None,
        )


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
        ``loss_ce`` and ``loss_wce``, the latter with lambda in it; the loss is their sum. Neither can be differentiated
        twice.
    """
    agreed, disputed = _NoiseAware.apply(logits, y_crf, common_label(y_crf, y_ret), params)
    return {"loss_ce": agreed, "loss_wce": disputed}


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
