"""From a map in a box to a mask, by rules that need no true mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsis.config.params import key, part
from wsis.config.rules import above_at_most, at_least_below
from wsis.layers.box_shapes import StandInParams
from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.layers.iou import box_iou
from wsis.structures.boxes import mask_to_box

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Among which the one that fits the box is looked for."""


@dataclass(frozen=True)
class BoxMapParams:
    """How a map in a box becomes a mask.

    Attributes:
        threshold: Of the map in the box, whose largest value is 1, where the mask begins; 0 = the highest one of 0.05,
            0.1, ... whose mask still fills its box, which needs no true mask.
        fit: Least IoU of the mask's tight box with the given one, in units of the largest one, for that rule.
        refine: A dense CRF refines the mask inside its box.
    """

    threshold: float = key(0.0, at_least_below(0, 1))
    fit: float = key(0.9, above_at_most(0, 1))
    refine: bool = key(False)
    crf: DenseCRFParams = part(
        DenseCRFParams(3.0, 3.0, 4.0, 67.0, 5.0, iterations=5), "CRF", "By this CRF REFINE works."
    )
    stand_in: StandInParams = part(StandInParams())

    def mask(self, inside: np.ndarray, image: np.ndarray) -> np.ndarray:
        """(h, w) bool.

        Args:
            inside: (h, w) in [0, 1], the map in its box.
            image: (h, w, 3) uint8, the pixels there.
        """
        threshold = self.threshold or fitting_threshold(inside, self.fit)
        mask = inside > threshold
        if self.refine and mask.any():
            mask = _refined(image, inside, threshold, self.crf)
        return mask


def fit_of(mask: np.ndarray) -> float:
    """IoU of a mask's tight box with the window that it is on, which is the given box."""
    tight = mask_to_box(mask)
    height, width = mask.shape
    return 0.0 if tight is None else float(box_iou(tight, (0, 0, width, height)))


def fitting_threshold(inside: np.ndarray, fit: float) -> float:
    """The highest threshold whose mask still fills its box: above it the mask no longer touches all sides, and below it
    there is only more of what is less certain.

    Args:
        inside: (h, w) in [0, 1], the map in its box.
        fit: least IoU of the mask's tight box with the box, in units of the largest one over :data:`THRESHOLDS`.
    """
    fits = np.array([fit_of(inside > threshold) for threshold in THRESHOLDS])
    return THRESHOLDS[int(np.flatnonzero(fits >= fit * fits.max()).max())]


def _refined(
    image: np.ndarray, inside: np.ndarray, threshold: float, params: DenseCRFParams
) -> np.ndarray:
    """A CRF of probabilities that are 0.5 where the map has the threshold; outside of the box all is background."""
    probability = inside ** (np.log(0.5) / np.log(threshold))
    pair = np.stack([probability, 1 - probability]).astype(np.float32).clip(1e-4, 1 - 1e-4)
    return dense_crf(np.ascontiguousarray(image), pair, params)[0] > 0.5
