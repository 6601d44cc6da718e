"""From the probabilities of a mask head to the masks of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsis.layers.paste import box_crop
from wsis.layers.window_crf import WindowCRFParams, refined_in_window
from wsis.structures import Crop, ProxyMasks, Seed

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
        colours: whether and how they decide where it ends.
    """

    threshold: float
    colours: WindowCRFParams = WindowCRFParams()

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`."""
        maps = seed.maps[PROBABILITIES]
        pairs = zip(maps, seed.boxes, strict=True)
        crops = [self._crop(cells, box, image) for cells, box in pairs]
        return ProxyMasks.from_crops(seed, crops, scores=mean_inside(maps, self.threshold).tolist())

    def _crop(self, cells: np.ndarray, box: np.ndarray, image: np.ndarray) -> Crop:
        height, width = image.shape[:2]
        crop = box_crop(cells, box, height, width, self.threshold)
        if not self.colours.refine or not crop[0].any():
            return crop
        values, x0, y0 = box_crop(cells, box, height, width, threshold=-1)  # of 255
        probability = values.astype(np.float32) / 255, x0, y0
        refined = refined_in_window(image, box, probability, self.threshold, self.colours)
        return refined if refined[0].any() else crop
