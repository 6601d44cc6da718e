"""A BANAClassifier of a few channels, and what it trains on and is asked about."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.methods.bana import tiny_segmentor
from wsis.methods.bana import BANAClassifier

KEYS = tiny_segmentor.NETWORK | {
    "MODEL.META_ARCHITECTURE": "BANAClassifier",
    "INPUT.SCALED_CROP.SIZE": 64,
    "MODEL.BANA.CRF.BILATERAL_XY_STD": 10.0,
    "MODEL.BANA.CRF.BILATERAL_RGB_STD": 20.0,
    "MODEL.BANA.CRF.ITERATIONS": 3,
    "MODEL.BANA.LR_FACTORS": [1.0, 1.0, 1.0],
    "SOLVER.STEPS": (),
    "SOLVER.BASE_LR": 0.05,
    "PROXY.NUM_WORKERS": 0,
    "SEED": 3,
}


def make_cfg(**keys: Any) -> CfgNode:
    """The tiny classifier; keys with dots or with ``__`` for the dots."""
    return tiny_segmentor.make_cfg(KEYS, **keys)


def make_classifier(**keys: Any) -> BANAClassifier:
    """Not trained."""
    torch.manual_seed(5)
    return build_model(make_cfg(**keys))


def _instances(boxes: list[list[float]], classes: list[int], size: tuple[int, int]) -> Instances:
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return instances


def make_sample(boxes: list[list[int]], classes: list[int], side: int = 64) -> dict[str, Any]:
    """As the training loader makes it."""
    background = torch.ones(side, side, dtype=torch.uint8)
    for x0, y0, x1, y1 in boxes:
        background[y0:y1, x0:x1] = 0
    image, instances = 255 * torch.rand(3, side, side), _instances(boxes, classes, (side, side))
    return {"image": image, "background": background, "instances": instances}


def make_inputs(boxes: list[list[float]], classes: list[int], size=(40, 56)) -> dict[str, Any]:
    """As a teacher gets it."""
    image = np.random.default_rng(7).integers(0, 100, (*size, 3), dtype=np.uint8)
    for x0, y0, x1, y1 in np.array(boxes, int).reshape(-1, 4):
        image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] += 120
    instances = _instances(boxes, classes, size)
    instances.original_boxes = instances.gt_boxes.tensor
    instances.annotation_ids = torch.arange(11, 11 + len(classes))
    names = {"file_name": "x.png", "image_id": 1, "instances": instances}
    return tiny_segmentor.view(image) | names
