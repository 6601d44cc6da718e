"""From the probabilities of a mask head to the masks of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsis.layers.paste import box_crop
from wsis.structures import ProxyMasks, Seed

PROBABILITIES = "probabilities"
"""The seed's map: (N, M, M) float32, of the cells of each box."""


def mean_inside(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """How sure a mask head is of its masks: the mean probability of the cells that belong to them.

    Args:
        probabilities: (N, M, M) in [0, 1].
        threshold: from which a cell does.

    Returns:
        (N,) in [0, 1]; 0 where no cell does.
    """
    inside = probabilities >= threshold
    number = inside.sum(axis=(1, 2))
    return (probabilities * inside).sum(axis=(1, 2)) / np.maximum(number, 1)


@dataclass(frozen=True)
class StudentRefiner:
    """Puts the masks into the image; picklable.

    Attributes:
        threshold: probability from which a pixel belongs to the mask.
    """

    threshold: float

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`; the image is not looked at."""
        maps, size = seed.maps[PROBABILITIES], (seed.height, seed.width)
        pairs = zip(maps, seed.boxes, strict=True)
        crops = [box_crop(cells, box, *size, self.threshold) for cells, box in pairs]
        return ProxyMasks.from_crops(seed, crops, scores=mean_inside(maps, self.threshold).tolist())
