"""ICAM's losses on class activation maps, one by one and together (arXiv 2203.12459).

Maps are (N, C + 1, h, w), channel 0 the background; "logits" are before, "probabilities" after the softmax over the
channels. Tags are (N, C), 1 for each class of the image, else 0; no image has a tag of the background.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from wsis.config.params import key, part
from wsis.config.rules import at_least, either, one_of, within
from wsis.layers.deeplab import resize_scores
from wsis.layers.feature_similarity import SimilarityParams

EPS = 1e-3
"""Keeps the logit of a probability finite: it lies between log EPS and -log EPS."""
PMF_FLOOR = 1e-12
"""Added to the weights that pixels are drawn by, since a channel may be 0 everywhere."""
SAMPLED, EXPECTED = "sampled", "expected"


@dataclass(frozen=True)
class LossParams:
    """Weights and forms of the terms; the defaults are the published ones.

    Attributes:
        importance_weight: Share w of the importance-sampling loss of a map, beside 1 - w of the loss of its mean; 0 and
            1 leave one of them out.
        importance: Pixels are "sampled", or the loss is "expected": the mean over all draws, exact and without noise.
        samples: Pixels that are drawn of each class.
        pooling: The loss of share 1 - w takes the mean of a class's logits ("avg"), or the maximum of its probabilities
            ("max"), and then has the background as one more tag.
        refined_pooling: The same of the refined maps: "max" as published, or "avg".
    """

    importance_weight: float = key(0.8, within(0, 1))
    importance: str = key(SAMPLED, either(SAMPLED, EXPECTED))
    samples: int = key(100, at_least(1))
    pooling: str = key("avg", one_of(("avg", "max")))
    refined_pooling: str = key("max", one_of(("avg", "max")))
    similarity: SimilarityParams = part(SimilarityParams(weight=0.5), "SIMILARITY")


@dataclass(frozen=True)
class Maps:
    """What the network makes of one image size, both (N, C + 1, h, w) logits.

    Attributes:
        plain: of the classifier.
        refined: of the pixel correlation module.
    """

    plain: Tensor
    refined: Tensor

    def probabilities(self) -> Maps:
        """After the softmax over the channels."""
        return Maps(self.plain.softmax(dim=1), self.refined.softmax(dim=1))


def probability_logit(probability: Tensor) -> Tensor:
    """z(p) = log(p (1 - EPS) + EPS) - log(1 - p (1 - EPS)), whose sigmoid is (p (1 - EPS) + EPS) / (1 + EPS)."""
    inner = probability * (1 - EPS)
    return (inner + EPS).log() - (-inner).log1p()


def with_background(tags: Tensor) -> Tensor:
    """(N, C) to (N, C + 1), the first one 1."""
    return functional.pad(tags, (1, 0), value=1)


def tag_loss(scores: Tensor, tags: Tensor) -> Tensor:
    """Mean over all entries of the binary cross-entropy of logits (N, C) and tags."""
    return functional.binary_cross_entropy_with_logits(scores, tags)


def pooled_loss(logits: Tensor, tags: Tensor, pooling: str) -> Tensor:
    """The loss of each class's mean logit, background left out, or of the logit of each channel's largest probability,
    background included.

    Args:
        logits: (N, C + 1, h, w).
        tags: (N, C).
        pooling: "avg" or "max".
    """
    if pooling == "avg":
        return tag_loss(logits[:, 1:].mean(dim=(2, 3)), tags)
    return tag_loss(
        probability_logit(logits.softmax(dim=1).amax(dim=(2, 3))), with_background(tags)
    )


def draw_pixels(probabilities: Tensor, number: int) -> Tensor:
    """Pixels of each channel drawn with replacement, in proportion to their probability.

    Args:
        probabilities: (N, K, h, w).
        number: S.

    Returns:
        (N, K, S) int64, row * w + column.
    """
    weights = probabilities.detach().float().flatten(2).flatten(0, 1) + PMF_FLOOR
    return weights.multinomial(number, replacement=True).unflatten(0, probabilities.shape[:2])


def sampled_importance_loss(probabilities: Tensor, tags: Tensor, pixels: Tensor) -> Tensor:
    """Binary cross-entropy of the probabilities at drawn pixels, mean over images, classes and draws. The draws are
    constants: the gradient goes through the values only.

    Args:
        probabilities: (N, C + 1, h, w).
        tags: (N, C).
        pixels: (N, C + 1, S), see :func:`draw_pixels`; those of the background do not count.
    """
    drawn = probabilities[:, 1:].flatten(2).gather(2, pixels[:, 1:])
    return tag_loss(probability_logit(drawn), tags[:, :, None].expand_as(drawn))


def expected_importance_loss(probabilities: Tensor, tags: Tensor) -> Tensor:
    """The mean of :func:`sampled_importance_loss` over all draws; its gradient, too, is the mean of the gradients.

    Args:
        probabilities: (N, C + 1, h, w).
        tags: (N, C).
    """
    values = probabilities[:, 1:].flatten(2)
    weights = values.detach() + PMF_FLOOR
    weights = weights / weights.sum(dim=2, keepdim=True)
    logits, targets = probability_logit(values), tags[:, :, None].expand_as(values)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (weights * losses).sum(dim=2).mean()


def equivariance_losses(first: Maps, second: Maps) -> tuple[Tensor, Tensor]:
    """How much the probabilities of two image sizes, and of maps and refined maps, differ: mean absolute differences
    at the second one's size.

    Args:
        first, second: probabilities of the larger and the smaller image.

    Returns:
        ER, between the same kinds of both sizes and between both kinds of the same size; and ECR, between unlike kinds
        of unlike sizes.
    """
    size = (second.plain.shape[2], second.plain.shape[3])
    plain1, refined1 = (resize_scores(maps, size) for maps in (first.plain, first.refined))
    mean = functional.l1_loss
    same = mean(plain1, second.plain) + mean(refined1, second.refined)
    same = same + mean(plain1, refined1) + mean(second.plain, second.refined)
    return same, mean(plain1, second.refined) + mean(second.plain, refined1)


def importance_loss(
    probabilities: Tensor, tags: Tensor, params: LossParams, pixels: Tensor | None = None
) -> Tensor:
    """The importance-sampling loss of one size; ``pixels`` None = drawn here."""
    if params.importance == EXPECTED:
        return expected_importance_loss(probabilities, tags)
    if pixels is None:
        pixels = draw_pixels(probabilities, params.samples)
    return sampled_importance_loss(probabilities, tags, pixels)


def map_losses(
    scales: tuple[Maps, Maps],
    tags: Tensor,
    colours: Tensor,
    params: LossParams,
    pixels: tuple[Tensor | None, Tensor | None] = (None, None),
) -> dict[str, Tensor]:
    """All terms with their weights; the loss is their sum.

    Args:
        scales: the maps of the image and of its smaller copy, float32.
        tags: (N, C).
        colours: (N, 3, h, w) in [0, 1] at the size of the first maps.
        params: weights and forms.
        pixels: draws for each size, None = drawn here.

    Returns:
        ``loss_pooled`` and ``loss_importance`` (each unless its share is 0), ``loss_refined``, ``loss_er``,
        ``loss_ecr``, and ``loss_similarity`` unless its weight is 0.
    """
    losses: dict[str, Tensor] = {}
    share = params.importance_weight
    if share < 1:
        first, second = (pooled_loss(maps.plain, tags, params.pooling) for maps in scales)
        losses["loss_pooled"] = (1 - share) * (first + second)
    if share > 0:
        first, second = (
            importance_loss(maps.plain.softmax(dim=1), tags, params, own)
            for maps, own in zip(scales, pixels, strict=True)
        )
        losses["loss_importance"] = share * (first + second)
    first, second = (pooled_loss(m.refined, tags, params.refined_pooling) for m in scales)
    losses["loss_refined"] = first + second
    losses["loss_er"], losses["loss_ecr"] = equivariance_losses(
        scales[0].probabilities(), scales[1].probabilities()
    )
    if params.similarity.weight > 0:
        losses["loss_similarity"] = params.similarity.loss(scales[0].plain.softmax(dim=1), colours)
    return losses
