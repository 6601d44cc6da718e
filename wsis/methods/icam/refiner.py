"""From the mean maps of an image's classes to score maps and labels: the CPU's part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.seeds import label_map
from wsis.methods.icam.maps import crf_maps, winners
from wsis.structures import ImageMaps, ScoreMaps, Seed

ICAM_MAP = "icam"
ICAM_LABEL = "icam_labels"


def crf_names(alphas: Sequence[float]) -> tuple[str, ...]:
    """Of the maps that a CRF makes with each exponent."""
    return tuple(f"crf_alpha{alpha:g}" for alpha in alphas)


@dataclass(frozen=True)
class ICAMRefiner:
    """The best class of each pixel, and what dense CRFs make of it.

    Attributes:
        stride: of the grid.
        alphas: exponents of the CRFs' background.
        crf: of them.
        labels: also make labels, in which background is what no class is, half of a class's largest score or more.
    """

    stride: int
    alphas: tuple[float, ...]
    crf: DenseCRFParams
    labels: bool = False

    def __call__(self, seed: Seed, image: np.ndarray) -> ImageMaps:
        """See :meth:`wsis.modeling.teacher.Maker.refiner`."""
        classes, size = [tag + 1 for tag in seed.tags], (seed.height, seed.width)
        best = winners(torch.from_numpy(seed.maps[ICAM_MAP]))
        maps = ScoreMaps(np.array(classes), best.numpy(), *size, self.stride)
        made, pixels = ImageMaps(score_maps={ICAM_MAP: maps}), maps.enlarged()
        if self.labels:
            background = 1 - pixels.sum(dim=0, keepdim=True)
            made.sem_seg[ICAM_LABEL] = label_map(pixels, classes, background).numpy()
        if self.alphas:
            names, of_crfs = crf_names(self.alphas), crf_maps(image, pixels, self.alphas, self.crf)
            for name, marginals in zip(names, of_crfs, strict=True):
                made.score_maps[name] = self._on_grid(marginals, [0, *classes], size)
        return made

    def _on_grid(self, scores: np.ndarray, classes: list[int], size: tuple[int, int]) -> ScoreMaps:
        """The mean of each cell's pixels."""
        cells = functional.avg_pool2d(
            torch.from_numpy(scores), self.stride, ceil_mode=True, count_include_pad=False
        )
        return ScoreMaps(np.array(classes), cells.numpy(), *size, self.stride)
