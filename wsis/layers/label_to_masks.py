"""From a semantic label and the boxes of an image to one mask per box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wsis.layers.merge import merge_by_area
from wsis.structures import Crop, ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices
from wsis.structures.pseudo_labels import IGNORE
from wsis.structures.rle import decode_mask

Slices = tuple[slice, slice]


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


def instance_masks(label: np.ndarray, boxes: ImageBoxes, areas: np.ndarray) -> list[np.ndarray]:
    """Per box the pixels of its class in it; one that several boxes of a class claim goes to the smallest of them.

    Args:
        label: (H, W).
        boxes: N boxes.
        areas: (N,) of the boxes; of equal ones the first is the smallest.

    Returns:
        N masks of the boxes' slices, bool.
    """
    claims = [
        (label[box] == own, box[1].start, box[0].start)
        for box, own in zip(boxes.boxes, boxes.labels, strict=True)
    ]
    return merge_by_area(claims, areas, *boxes.size)


def masks_from_label(seed: Seed, boxes: ImageBoxes, label: np.ndarray) -> ProxyMasks:
    """The :func:`instance_masks` of a seed. A box without any pixel becomes whole, with status "fallback"; 255 is
    ignored.

    Args:
        seed: of one image.
        boxes: its boxes on the pixel grid.
        label: (H, W).
    """
    areas = (seed.boxes[:, 2:] - seed.boxes[:, :2]).prod(axis=1)
    crops: list[Crop] = []
    ignored: list[Crop] = []
    status = []
    for box, mask in zip(boxes.boxes, instance_masks(label, boxes, areas), strict=True):
        found, place = bool(mask.any()), (box[1].start, box[0].start)
        crops.append((mask if found else np.ones_like(mask), *place))
        ignored.append((label[box] == IGNORE, *place))
        status.append("ok" if found else "fallback")
    return ProxyMasks.from_crops(seed, crops, ignore=ignored, status=status)
