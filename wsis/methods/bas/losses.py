"""Activation map constraint and its companions (Zhai et al., "Background Activation Suppression", IJCV 2023).

What the generator takes for background must not excite the classifier's logit of the class. Cross-entropy in its place
would be satisfied as soon as the mask covers the most telling part; the logit falls until the mask covers the object.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

EPSILON = 1e-8


def erased_logits(classifier: nn.Module, features: Tensor, foreground: Tensor) -> Tensor:
    """What the classifier says of the background alone.

    Gradients reach the foreground map only: the features are constants in the product, and the classifier is called
    with its parameters as constants. Its batch norms normalise with the statistics of this very batch and update
    copies of their buffers, so that the running statistics see clean passes only. That is what a deep copy of the
    classifier would give, without the copy and without the graph of its weights.

    Args:
        classifier: (B, C, H, W) to logits.
        features: (B, C, H, W) tapped.
        foreground: (B, 1, H, W) in [0, 1].

    Returns:
        As the classifier does.
    """
    frozen = {name: value.detach() for name, value in classifier.named_parameters()}
    frozen |= {name: value.clone() for name, value in classifier.named_buffers()}
    return functional_call(classifier, frozen, features.detach() * (1 - foreground))


def suppression(score: Tensor, erased: Tensor, above: float = 1.0) -> Tensor:
    """Share of the class's activation that the background keeps: relu(erased) / (relu(score) + 1e-8).

    Args:
        score: (B,) logits of the class, spatial mean; taken as constants.
        erased: (B,) the same of :func:`erased_logits`.
        above: value, without gradient, where the background excites the class more than the image does.

    Returns:
        (B,) in [0, 1]; 0 without gradient where the background does not excite the class at all.
    """
    whole, rest = score.detach().relu(), erased.relu()
    return torch.where(rest > whole, above, rest / (whole + EPSILON))


def region_scores(logits: Tensor, foreground: Tensor, detach: bool = False) -> Tensor:
    """Scores of the foreground region, whose cross-entropy guides the map.

    Args:
        logits: (B, K, h, w) of the clean pass.
        foreground: (B, 1, H, W), averaged down where it is a multiple of the logits' size.
        detach: the logits are constants (semantic seeds), so that only the map learns.

    Returns:
        (B, K) spatial means of logits times map.

    Raises:
        ValueError: the sizes do not divide.
    """
    height, width = logits.shape[2:]
    if foreground.shape[2:] != logits.shape[2:]:
        window = foreground.shape[2] // height, foreground.shape[3] // width
        foreground = functional.avg_pool2d(foreground, window)
    if foreground.shape[2:] != logits.shape[2:]:
        raise ValueError(f"the map is no multiple of the logits' size {height} x {width}")
    return ((logits.detach() if detach else logits) * foreground).mean(dim=(2, 3))
