"""From the summed maps of an image's classes to score maps: the CPU's part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from wsis.layers.seeds import normalised
from wsis.structures import ImageMaps, ScoreMaps, Seed

BAS_MAP = "bas"


@dataclass(frozen=True)
class BASRefiner:
    """Divides each map by its largest value.

    Attributes:
        stride: of the grid.
    """

    stride: int

    def __call__(self, seed: Seed, image: np.ndarray) -> ImageMaps:
        """See :meth:`wsis.modeling.teacher.Maker.refiner`; the image is not looked at."""
        scores = normalised(torch.from_numpy(seed.maps[BAS_MAP])).numpy()
        classes = np.array(seed.tags, dtype=np.int64) + 1
        maps = ScoreMaps(classes, scores, seed.height, seed.width, self.stride)
        return ImageMaps(score_maps={BAS_MAP: maps})
