"""From the byte maps of an image's boxes to its proxy masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from wsis.layers.iou import box_iou
from wsis.layers.merge import merge_by_area
from wsis.layers.paste import byte_mask, minmax_normalise, quantise
from wsis.structures import ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices, mask_to_box
from wsis.structures.proxy_masks import Crop

BYTES = "bytes"
"""The seed's map: (N, h, w) uint8, see :func:`byte_maps`."""
FRACTION_DIGITS = 3
"""To which sides are rounded: one of 20 that float32 corners make 19.999998 is as long as any other of 20."""


def byte_maps(probabilities: Tensor | np.ndarray) -> np.ndarray:
    """Probabilities as they are kept: each map stretched to [0, 1], then floor(255 p).

    Args:
        probabilities: (N, h, w), on any device.

    Returns:
        (N, h, w) uint8; 0 for a map without contrast.
    """
    maps = torch.as_tensor(probabilities).detach().float().cpu().numpy()
    return quantise(minmax_normalise(maps))


@dataclass(frozen=True)
class BoxCasegRefiner:
    """The CPU's part of BoxCaseg; picklable.

    Attributes:
        confidence: "legacy" or "exact", see :func:`mask_confidence`.
        merge: a pixel that several masks claim goes to the one with the smallest box.
    """

    confidence: str
    merge: bool = True

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`; the image is not looked at."""
        if not len(seed):
            return ProxyMasks.all_empty(seed)
        size = seed.height, seed.width
        crops: list[Crop] = []
        for values, box in zip(seed.maps[BYTES], seed.boxes, strict=True):
            rows, columns = box_to_slices(box, *size)
            mask = byte_mask(values, rows.stop - rows.start, columns.stop - columns.start)
            crops.append((mask, columns.start, rows.start))
        if self.merge:
            corners = seed.boxes.astype(np.float64)
            sides = (corners[:, 2:] - corners[:, :2]).round(FRACTION_DIGITS)
            merged = merge_by_area(crops, sides.prod(axis=1), *size)
            crops = [(mask, *crop[1:]) for mask, crop in zip(merged, crops, strict=True)]
        scores = [
            mask_confidence(tight_box(crop), box, *size, self.confidence)
            for crop, box in zip(crops, seed.boxes, strict=True)
        ]
        return ProxyMasks.from_crops(seed, crops, scores=scores)


def tight_box(crop: Crop) -> np.ndarray | None:
    """The tight box of a mask on a window, XYXY in pixels of the image, half-open; None for an empty mask."""
    mask, x0, y0 = crop
    box = mask_to_box(mask)
    return None if box is None else box + (x0, y0, x0, y0)


def mask_confidence(
    tight: np.ndarray | None, box: ArrayLike, height: int, width: int, mode: str
) -> float:
    """How well a mask fills its box: IoU of its tight box with the given one.

    Args:
        tight: (4,) XYXY of the mask, half-open, or None for an empty mask.
        box: (4,) XYXY of the annotation, original pixels.
        height, width: image size in pixels.
        mode: "exact": with the pixels that the box touches, so that a mask which fills them has 1. "legacy": with the
            corners int(x), int(y), int(x) + int(w), int(y) + int(h), all of them counted as pixels of the box, so that
            a mask which fills an integer box of w x h has w h / ((w + 1) (h + 1)).

    Returns:
        In [0, 1]; 0 for an empty mask.
    """
    if tight is None:
        return 0.0
    if mode == "exact":
        rows, columns = box_to_slices(box, height, width)
        return float(box_iou(tight, (columns.start, rows.start, columns.stop, rows.stop)))
    return float(box_iou(tight - (0, 0, 1, 1), truncated_box(box), inclusive=True))


def truncated_box(box: ArrayLike) -> np.ndarray:
    """(4,) XYXY to int(x), int(y), int(x) + int(w), int(y) + int(h)."""
    corners = np.asarray(box, dtype=np.float64)
    sides = (corners[2:] - corners[:2]).round(FRACTION_DIGITS)
    near = np.trunc(corners[:2])
    return np.concatenate([near, near + np.trunc(sides)])
