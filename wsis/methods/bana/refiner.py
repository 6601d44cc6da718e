"""From the features of an image to its pseudo labels and proxy masks: the CPU's part of stage 2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from wsis.data.crop_transform import shift_near_edges
from wsis.layers.enlarged import Enlarged
from wsis.methods.bana.config import BANAParams
from wsis.methods.bana.pseudo_labels import (
    IGNORE,
    LABELS,
    ImageBoxes,
    instance_masks,
    intersection,
    semantic_labels,
    union,
)
from wsis.structures import Crop, ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices
from wsis.structures.rle import decode_mask

FEATURES = "features"
"""Name of the seed's map: (C, h, w) float32."""


@dataclass(frozen=True, eq=False)
class BANARefiner:
    """Makes both labels, and cuts one mask per box from one of them; picklable.

    Attributes:
        weights: (rows, C) float32 of the classifier, background first.
        rows: of each class of the dataset, its row; None = the classifier does not know it.
        params: of the labels and of the masks.
        sem_seg: also return the labels.
    """

    weights: np.ndarray
    rows: tuple[int | None, ...]
    params: BANAParams
    sem_seg: bool = False

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`."""
        boxes = image_boxes(seed, self.params.legacy_box_shift)
        features = Enlarged(torch.from_numpy(seed.maps[FEATURES]), boxes.size)
        weights = torch.from_numpy(self.weights)
        y_crf, y_ret = semantic_labels(
            image, features, boxes, weights, self.rows, self.params.labels
        )
        labels = dict(zip(LABELS, (y_crf, y_ret, intersection(y_crf, y_ret)), strict=True))
        masks = _cut(seed, boxes, labels[self.params.mask_label])
        if self.sem_seg:
            masks.sem_seg = labels
        return masks


def image_boxes(seed: Seed, legacy_box_shift: bool = False) -> ImageBoxes:
    """A seed's boxes on the pixel grid; what is outside of them and not in the seed's void is background.

    Args:
        seed: of one image.
        legacy_box_shift: see :func:`wsis.data.crop_transform.shift_near_edges`.
    """
    corners = shift_near_edges(seed.boxes) if legacy_box_shift else seed.boxes
    size = seed.height, seed.width
    boxes = [box_to_slices(box, *size) for box in corners]
    background = ~union(boxes, size)
    for code in seed.void:
        background &= ~torch.from_numpy(decode_mask(code).astype(bool))
    return ImageBoxes(size, boxes, seed.classes + 1, background)


def _cut(seed: Seed, boxes: ImageBoxes, label: np.ndarray) -> ProxyMasks:
    """The masks of all boxes (spec 8.1): of a box without any pixel the whole box, as status "fallback"; 255 is
    ignored.
    """
    areas = (seed.boxes[:, 2:] - seed.boxes[:, :2]).prod(axis=1)
    crops: list[Crop] = []
    ignored: list[Crop] = []
    status = []
    for box, mask in zip(boxes.boxes, instance_masks(label, boxes, areas), strict=True):
        found = bool(mask.any())
        rows, columns = box
        crops.append((mask if found else np.ones_like(mask), columns.start, rows.start))
        ignored.append((label[box] == IGNORE, columns.start, rows.start))
        status.append("ok" if found else "fallback")
    return ProxyMasks.from_crops(seed, crops, ignore=ignored, status=status)
