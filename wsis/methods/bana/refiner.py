"""From the features of an image to its pseudo labels and proxy masks: the CPU's part of stage 2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from wsis.layers.enlarged import Enlarged
from wsis.layers.label_to_masks import image_boxes, masks_from_label
from wsis.methods.bana.config import BANAParams
from wsis.methods.bana.pseudo_labels import LABELS, intersection, semantic_labels
from wsis.structures import ProxyMasks, Seed
from wsis.structures.boxes import shift_near_edges

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
        corners = shift_near_edges(seed.boxes) if self.params.legacy_box_shift else None
        boxes = image_boxes(seed, corners)
        features = Enlarged(torch.from_numpy(seed.maps[FEATURES]), boxes.size)
        weights = torch.from_numpy(self.weights)
        y_crf, y_ret = semantic_labels(
            image, features, boxes, weights, self.rows, self.params.labels
        )
        labels = dict(zip(LABELS, (y_crf, y_ret, intersection(y_crf, y_ret)), strict=True))
        label = labels[self.params.mask_label]
        masks = masks_from_label(seed, boxes, label, self.params.stand_in, self.params.contested)
        if self.sem_seg:
            masks.sem_seg = labels
        return masks
