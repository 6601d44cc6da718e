"""The background attention of an image, to look at."""

from __future__ import annotations

import numpy as np
import torch

from wsis.layers.enlarged import Enlarged
from wsis.layers.label_to_masks import image_boxes
from wsis.methods.bana.pseudo_labels import background_attention
from wsis.methods.bana.refiner import FEATURES
from wsis.structures import Seed
from wsis.structures.boxes import shift_near_edges


def attention_map(seed: Seed, legacy_box_shift: bool = False) -> np.ndarray:
    """A(p) = ReLU(cos(q, f(p))), q the mean feature of what is outside of all boxes, without the threshold.

    Args:
        seed: what :meth:`wsis.methods.bana.BANAClassifier.propose` returned for the image.
        legacy_box_shift: see :func:`wsis.structures.boxes.shift_near_edges`.

    Returns:
        (H, W) float32 in [0, 1]; 0 everywhere if the boxes cover the image.
    """
    boxes = image_boxes(seed, shift_near_edges(seed.boxes) if legacy_box_shift else None)
    features = Enlarged(torch.from_numpy(seed.maps[FEATURES]), boxes.size)
    return background_attention(features, boxes.background, 0.0).clamp(max=1).numpy()
