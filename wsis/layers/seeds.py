"""Seeds: from the score maps of an image's classes to a label map, and from there to labels that one can be sure of.

Maps are (K, h, w), one for each class that is in the image, of at least 0; ``labels`` are the K values that they stand
for in a label map, 0 = background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsis.config.params import key, part
from wsis.config.rules import Rule, at_least
from wsis.layers.dense_crf import DenseCRF, DenseCRFParams
from wsis.layers.label_maps import mean_over_scales
from wsis.structures.pseudo_labels import IGNORE

EPS = 1e-5
"""Added to a largest score that is divided by: a map of zeros stays one."""


def normalised(maps: Tensor) -> Tensor:
    """Each map divided by its own largest value, (K, h, w)."""
    return maps / (maps.amax(dim=(-2, -1), keepdim=True) + EPS)


def fused(*kinds: Tensor) -> Tensor:
    """The normalised sum of normalised maps of several methods, (K, h, w) each, as BAS is joined with CAM; of one kind
    alone the normalised maps.
    """
    first, *others = map(normalised, kinds)
    return normalised(sum(others, first)) if others else first


def strided_sum(maps: Sequence[Tensor], height: int, width: int, stride: int = 4) -> Tensor:
    """Sum of the maps of several scales on a grid of the image's size over a stride, rounded up.

    Args:
        maps: (K, h_i, w_i) of each scale.
        height, width: of the image.
        stride: of the grid.
    """
    return _sum(maps, (-(-height // stride), -(-width // stride)))


def full_sum(maps: Sequence[Tensor], height: int, width: int, multiple: int = 16) -> Tensor:
    """Sum of the maps of several scales at the image's size, made at a multiple of the network's stride and cut.

    Args:
        maps: (K, h_i, w_i) of each scale.
        height, width: of the image.
        multiple: that the sides are rounded up to.
    """
    size = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    return _sum(maps, size)[:, :height, :width]


def _sum(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    unturned = [False] * len(maps)
    mean = mean_over_scales([each[None] for each in maps], unturned, size, align_corners=False)
    return mean[0] * len(maps)


def power_background(maps: Tensor, alpha: float) -> Tensor:
    """(1 - the largest score)^alpha of maps in [0, 1]: (1, h, w)."""
    return (1 - maps.amax(dim=0, keepdim=True)).pow(alpha)


def label_map(maps: Tensor, labels: Sequence[int], background: float | Tensor) -> Tensor:
    """The label of the largest score; background wins its ties, else the earlier map.

    Args:
        maps: (K, h, w), K may be 0.
        labels: K values.
        background: score of background, a constant or (1, h, w).

    Returns:
        (h, w) uint8.
    """
    first = maps.new_zeros(1, *maps.shape[1:]) + background
    values = torch.tensor([0, *labels], dtype=torch.uint8, device=maps.device)
    return values[torch.cat([first, maps]).argmax(dim=0)]


@dataclass(frozen=True)
class ConfidentParams:
    """How scores become labels of which one can be sure.

    Attributes:
        foreground: Score of background in the label map whose objects are trusted.
        background: Score of background in the label map whose background is trusted, lower than FOREGROUND.
        confidence: Probability that the CRFs give to the class that a pixel has in these label maps.
    """

    foreground: float = key(0.30, at_least(0))
    background: float = key(0.17, at_least(0))
    confidence: float = key(0.7, Rule("above 0, below 1", lambda value: 0 < value < 1))
    crf: DenseCRFParams = part(DenseCRFParams(3.0, 3.0, 10.0, 50.0, 5.0, iterations=10), "CRF")


def smoothed(crf: DenseCRF, label: np.ndarray, num_labels: int, confidence: float) -> np.ndarray:
    """What a CRF makes of a label map that is right with some confidence.

    Args:
        crf: of the image, for as many labels.
        label: (H, W) integers in [0, M).
        num_labels: M, at least 2.
        confidence: probability of a pixel's label, in (0, 1); the other labels share the rest.

    Returns:
        (H, W) int64 in [0, M).
    """
    own = np.arange(num_labels).reshape(-1, 1, 1) == label
    rest = (1 - confidence) / (num_labels - 1)
    return crf.infer(np.where(own, confidence, rest)).argmax(axis=0)


def confident_labels(
    image: np.ndarray, maps: Tensor, labels: Sequence[int], params: ConfidentParams
) -> np.ndarray:
    """Objects where a CRF finds them in the label map of a high background, background where one finds it in the label
    map of a low background, else 255.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: (K, H, W) of the image's classes.
        labels: K values.
        params: the constants.

    Returns:
        (H, W) uint8, of the image's classes, 0 and 255.
    """
    number = len(labels) + 1
    if number == 1:
        return np.zeros(image.shape[:2], dtype=np.uint8)
    crf = DenseCRF(image, params.crf, number)
    objects, rest = (
        smoothed(crf, label_map(maps, range(1, number), score).numpy(), number, params.confidence)
        for score in (params.foreground, params.background)
    )
    values = np.array([IGNORE, *labels], dtype=np.uint8)
    return np.where((objects == 0) & (rest == 0), np.uint8(0), values[objects])


def affinity_labels(low: Tensor, high: Tensor, labels: Sequence[int]) -> Tensor:
    """AffinityNet's labels of cells from two maps of probabilities, in which background has a low and a high power: the
    lower it is, the more background there is, since (1 - score)^power falls with the power.

    A cell has the class that wins over the background of the low power, is background where that of the high power
    wins, and else 255, as is a cell without any score (padding).

    Args:
        low: (K + 1, h, w), the first map is the background; cells are means of their pixels.
        high: likewise of the high power.
        labels: K values of the other maps.

    Returns:
        (h, w) uint8.
    """
    values = torch.tensor([IGNORE, *labels], dtype=torch.uint8, device=low.device)
    label = values[low.argmax(dim=0)]
    label[high.argmax(dim=0) == 0] = 0
    label[torch.cat([low, high]).amax(dim=0) < EPS] = IGNORE
    return label
