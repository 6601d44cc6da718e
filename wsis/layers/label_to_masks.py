"""From a semantic label and the boxes of an image to one mask per box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wsis.layers.box_shapes import StandInParams
from wsis.layers.merge import merge_by_area, merge_by_distance
from wsis.structures import ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices
from wsis.structures.pseudo_labels import IGNORE
from wsis.structures.rle import decode_mask

Slices = tuple[slice, slice]
_NO_STAND_IN = StandInParams()
CONTESTED = {
    "smallest": lambda crops, boxes, *size: merge_by_area(
        crops, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), *size
    ),
    "nearest": merge_by_distance,
}
"""How a pixel that several boxes of a class claim is given to one of them, equal ones to the first."""


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image, by class.

    Attributes:
        size: height and width.
        boxes: N slices, in the order of the annotations.
        labels: (N,) int64, 1 = the first class.
        background: (H, W) bool, certain background: outside all boxes and regions that the teacher knows nothing of.
    """

    size: tuple[int, int]
    boxes: Sequence[Slices]
    labels: np.ndarray
    background: torch.Tensor

    @property
    def present(self) -> list[int]:
        """The M labels at hand, rising."""
        return sorted(set(self.labels.tolist()))

    def boxes_of(self, label: int) -> list[Slices]:
        """The boxes of one label, in order."""
        return [box for box, own in zip(self.boxes, self.labels, strict=True) if own == label]

    def regions(self) -> torch.Tensor:
        """(M, H, W) bool: the union of each present label's boxes."""
        regions = [union(self.boxes_of(label), self.size) for label in self.present]
        return torch.stack(regions) if regions else torch.zeros((0, *self.size), dtype=torch.bool)


def union(boxes: Sequence[Slices], size: tuple[int, int]) -> torch.Tensor:
    """(H, W) bool, the pixels of any box."""
    inside = torch.zeros(size, dtype=torch.bool)
    for box in boxes:
        inside[box] = True
    return inside


def image_boxes(seed: Seed, corners: np.ndarray | None = None) -> ImageBoxes:
    """A seed's boxes on the pixel grid; what is outside of them and not in the seed's void is background.

    Args:
        seed: of one image.
        corners: (N, 4) XYXY to take instead of the seed's boxes.
    """
    size = seed.height, seed.width
    boxes = [box_to_slices(box, *size) for box in (seed.boxes if corners is None else corners)]
    background = ~union(boxes, size)
    for code in seed.void:
        background &= ~torch.from_numpy(decode_mask(code).astype(bool))
    return ImageBoxes(size, boxes, seed.classes + 1, background)


def masks_from_label(
    seed: Seed,
    boxes: ImageBoxes,
    label: np.ndarray,
    stand_in: StandInParams = _NO_STAND_IN,
    contested: str = "smallest",
) -> ProxyMasks:
    """Per box the pixels of its class in it; one that several boxes of a class claim goes to one of them. A box without
    any pixel becomes whole, with status "fallback", unless ``stand_in`` has something better; 255 is ignored.

    Args:
        seed: of one image.
        boxes: its boxes on the pixel grid.
        label: (H, W).
        stand_in: what is done about masks that are too small.
        contested: one of :data:`CONTESTED`.
    """
    places = [(columns.start, rows.start) for rows, columns in boxes.boxes]
    parts = [(label[box], *place) for box, place in zip(boxes.boxes, places, strict=True)]
    claims = [(part == own, x, y) for (part, x, y), own in zip(parts, boxes.labels, strict=True)]
    masks = CONTESTED[contested](claims, seed.boxes, *boxes.size)
    own = [(mask, *place) for mask, place in zip(masks, places, strict=True)]
    status = ["ok" if mask.any() else "fallback" for mask in masks]
    crops, status = stand_in.apply(seed, own, status)
    crops = [(m if m.any() else np.ones_like(m), x, y) for m, x, y in crops]
    ignore = [(part == IGNORE, x, y) for part, x, y in parts]
    return ProxyMasks.from_crops(seed, crops, ignore=ignore, status=status)
