"""From the summed maps of an image's classes to score maps and labels: the CPU's part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from wsis.layers.seeds import label_map, normalised
from wsis.structures import ImageMaps, ScoreMaps, Seed

CAM_MAP = "cam"
CAM_LABEL = "cam_labels"


@dataclass(frozen=True)
class CAMRefiner:
    """Divides each map by its largest value.

    Attributes:
        stride: of the grid.
        background: score of background in the labels; None = no labels.
    """

    stride: int
    background: float | None = None

    def __call__(self, seed: Seed, image: np.ndarray) -> ImageMaps:
        """See :meth:`wsis.modeling.teacher.Maker.refiner`; the image is not looked at."""
        scores = normalised(torch.from_numpy(seed.maps[CAM_MAP])).numpy()
        classes = np.array(seed.tags, dtype=np.int64) + 1
        maps = ScoreMaps(classes, scores, seed.height, seed.width, self.stride)
        made = ImageMaps(score_maps={CAM_MAP: maps})
        if self.background is not None:
            label = label_map(maps.enlarged(), classes.tolist(), self.background)
            made.sem_seg[CAM_LABEL] = label.numpy()
        return made
