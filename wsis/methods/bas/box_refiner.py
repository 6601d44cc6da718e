"""From the maps of an image's box crops to its proxy masks: the CPU's part of box mode."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.layers.iou import box_iou
from wsis.layers.localisation import EPSILON
from wsis.structures import ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices, mask_to_box
from wsis.structures.proxy_masks import Crop

MAPS, WINDOWS = "maps", "windows"
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Among which the one that fits the box is looked for, on the stretched map."""


@dataclass(frozen=True)
class BASBoxRefiner:
    """Cuts each box's map to the box, stretches it to 0..1 and draws the line.

    Attributes:
        threshold: where the mask begins; 0 = as :func:`fitting_threshold` finds it.
        fit: see there.
        crf: refines the mask on the image inside the box; None = does not.
    """

    threshold: float
    fit: float
    crf: DenseCRFParams | None = None

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`; the confidence is the IoU of the mask's box with the given one."""
        crops: list[Crop] = []
        scores = []
        for map_, window, box in zip(seed.maps[MAPS], seed.maps[WINDOWS], seed.boxes, strict=True):
            rows, columns = box_to_slices(box, seed.height, seed.width)
            inside = cut_to_box(map_, window, rows, columns)
            threshold = self.threshold or fitting_threshold(inside, self.fit)
            mask = inside > threshold
            if self.crf is not None and mask.any():
                mask = _refined(image[rows, columns], inside, threshold, self.crf)
            crops.append((mask, columns.start, rows.start))
            scores.append(fit_of(mask))
        return ProxyMasks.from_crops(seed, crops, scores=scores)


def cut_to_box(map_: np.ndarray, window: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A crop's map in the pixels of its box, stretched to 0..1 there.

    Args:
        map_: (h, w) of the window.
        window: (4,) integers XYXY.
        rows, columns: of the box, inside the window.

    Returns:
        (rows, columns) float32; 0 for a map without contrast.
    """
    x0, y0, x1, y1 = (int(v) for v in window)
    full = cv2.resize(map_, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    inside = full[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
    low, high = inside.min(), inside.max()
    return (inside - low) / (high - low + np.float32(EPSILON))


def fit_of(mask: np.ndarray) -> float:
    """IoU of a mask's tight box with the window that it is on, which is the given box."""
    tight = mask_to_box(mask)
    height, width = mask.shape
    return 0.0 if tight is None else float(box_iou(tight, (0, 0, width, height)))


def fitting_threshold(inside: np.ndarray, fit: float) -> float:
    """The highest threshold whose mask still fills its box, which needs no true mask: above it the mask no longer
    touches all sides, and below it there is only more of what is less certain.

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
