"""From the maps of an image's box crops to its proxy masks: the CPU's part of box mode."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from wsis.layers.box_maps import BoxMapParams, fit_of
from wsis.layers.localisation import EPSILON
from wsis.structures import ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices
from wsis.structures.proxy_masks import Crop

MAPS, WINDOWS = "maps", "windows"


@dataclass(frozen=True)
class BASBoxRefiner:
    """Cuts each box's map to the box, stretches it to 0..1 and draws the line.

    Attributes:
        params: what is done then.
    """

    params: BoxMapParams

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`; the confidence is the IoU of the mask's box with the given one."""
        crops: list[Crop] = []
        scores = []
        for map_, window, box in zip(seed.maps[MAPS], seed.maps[WINDOWS], seed.boxes, strict=True):
            rows, columns = box_to_slices(box, seed.height, seed.width)
            inside = cut_to_box(map_, window, rows, columns)
            mask = self.params.mask(inside, image[rows, columns])
            crops.append((mask, columns.start, rows.start))
            scores.append(fit_of(mask))
        crops, status = self.params.stand_in.apply(seed, crops, ["ok"] * len(crops))
        return ProxyMasks.from_crops(seed, crops, scores=scores, status=status)


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
