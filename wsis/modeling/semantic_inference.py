"""How a segmentor labels an image: at one scale or the mean over several and their mirror images, with or without a
dense CRF. The order counts: scores are averaged, then multiplied with T, then made probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from wsis.config.params import key, part
from wsis.config.rules import Rule, at_least_below, each, positive
from wsis.layers.deeplab import resize_scores
from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.layers.label_maps import mean_over_scales

PROTOCOLS = ("single", "single_crf", "multi", "multi_crf")

Scorer = Callable[[torch.Tensor], torch.Tensor]
"""Normalised images (N, 3, h, w) to scores (N, C, h', w')."""


@dataclass(frozen=True)
class ProtocolParams:
    """What is made of an image; ``temperature``: T of softmax(T scores).

    Attributes:
        protocols: What is evaluated: "single" (the image as it is), "multi" (mean over SCALES and their mirror images),
            and either with a dense CRF on the image: "single_crf", "multi_crf". All are scored; the first is what the
            model returns as sem_seg.
        scales: Factors of the image's size for "multi".
        min_probability: The CRF sees only classes that are somewhere more probable than this; 0 = all.
    """

    protocols: tuple[str, ...] = key(
        ("single",),
        Rule(
            f"one or more of {', '.join(PROTOCOLS)}",
            lambda names: 0 < len(names) == len(set(names)) and set(names) <= set(PROTOCOLS),
        ),
    )
    scales: tuple[float, ...] = key(
        (1.0, 0.5, 0.75, 1.5), each("one or more numbers above 0", positive)
    )
    temperature: float = 1.0
    crf: DenseCRFParams = part(
        DenseCRFParams(3.0, 3.0, 4.0, 121.0, 5.0, iterations=10),
        "CRF",
        "This CRF belongs to the protocols.",
    )
    min_probability: float = key(1e-3, at_least_below(0, 1), "CRF_MIN_PROBABILITY")

    @property
    def needs_crf(self) -> bool:
        """Whether any of the protocols ends in a CRF."""
        return any(name.endswith("_crf") for name in self.protocols)


def single_scale(score: Scorer, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Scores of the image as it is.

    Args:
        score: the network.
        image: (3, h, w), normalised.
        size: height and width of the result.

    Returns:
        (C, H, W).
    """
    return resize_scores(score(image[None]), size)[0]


def mirrored_sum(score: Scorer, image: torch.Tensor) -> torch.Tensor:
    """Sum of the scores of an image and of its mirror image, turned back; they share a batch.

    Args:
        score: the network.
        image: (1, 3, h, w), normalised.

    Returns:
        (C, h', w').
    """
    as_it_is, mirrored = score(torch.cat([image, image.flip(-1)]))
    return as_it_is + mirrored.flip(-1)


def multi_scale(
    score: Scorer, image: torch.Tensor, size: tuple[int, int], scales: Sequence[float]
) -> torch.Tensor:
    """Mean of the scores of the scaled images and of their mirror images, which share a batch.

    Turning back and enlarging commute, so both maps of a scale are averaged before they are enlarged.

    Args:
        score: the network.
        image: (3, h, w), normalised; each side of a scaled one is floor(scale * side), at least 1.
        size: height and width of the result.
        scales: factors.

    Returns:
        (C, H, W).
    """
    maps = []
    for scale in scales:
        scaled = [max(1, int(scale * side)) for side in image.shape[1:]]
        resized = functional.interpolate(
            image[None], size=scaled, mode="bilinear", align_corners=True
        )
        maps.append(mirrored_sum(score, resized)[None] / 2)
    return mean_over_scales(maps, [False] * len(scales), size, align_corners=True)[0]


class CRFLabels:
    """The class of the largest marginal of a dense CRF, once NumPy asks for it; picklable, so that another process may.

    Args:
        image: (H, W, 3) uint8 RGB, the true colours.
        scores: (C, H, W) probabilities; only classes that are somewhere above ``min_probability`` are kept.
        params: kernel and steps.
        min_probability: in [0, 1).
    """

    def __init__(
        self,
        image: np.ndarray,
        scores: torch.Tensor,
        params: DenseCRFParams,
        min_probability: float,
    ) -> None:
        # the best class of a pixel has at least the mean probability
        least = min(min_probability, 1 / len(scores))
        kept = scores.amax(dim=(1, 2)) >= least
        self.class_ids = kept.nonzero()[:, 0].cpu().numpy()
        self.scores = scores[kept].float().cpu().numpy()
        self.image, self.params = image, params

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """(H, W) uint8."""
        if len(self.class_ids) == 1:
            best = np.zeros(self.image.shape[:2], dtype=np.intp)
        else:
            best = dense_crf(self.image, self.scores, self.params).argmax(axis=0)
        return self.class_ids[best].astype(np.uint8 if dtype is None else dtype)


def label_image(
    score: Scorer,
    image: torch.Tensor,
    size: tuple[int, int],
    params: ProtocolParams,
    original: np.ndarray | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor | CRFLabels]]:
    """All protocols of one image.

    Args:
        score: the network.
        image: (3, h, w), normalised.
        size: height and width of the original image.
        params: what to make.
        original: (H, W, 3) uint8 RGB, needed with a CRF.

    Returns:
        Probabilities (C, H, W) of the first protocol, before any CRF, and the label map of each: (H, W) uint8, or what
        NumPy makes one of.
    """
    found: dict[str, torch.Tensor] = {}
    labels: dict[str, torch.Tensor | CRFLabels] = {}
    for name in params.protocols:
        kind, _, crf = name.partition("_")
        if kind not in found:
            scores = (
                single_scale(score, image, size)
                if kind == "single"
                else multi_scale(score, image, size, params.scales)
            )
            found[kind] = (params.temperature * scores).softmax(dim=0)
        if crf:
            if original is None:
                raise ValueError("a protocol with a CRF needs the original image")
            labels[name] = CRFLabels(original, found[kind], params.crf, params.min_probability)
        else:
            labels[name] = found[kind].argmax(dim=0).to(torch.uint8)
    return found[params.protocols[0].partition("_")[0]], labels
