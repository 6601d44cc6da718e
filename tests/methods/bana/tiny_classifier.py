"""A BANAClassifier of a few channels, and its config for the tiny dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from wsis.config import load_cfg
from wsis.methods.bana import BANAClassifier

KEYS: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": "BANAClassifier",
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_atrous_vgg16_backbone",
    "MODEL.VGG.WIDTH": 1 / 16,
    "MODEL.VGG.NORM": "BN",
    "MODEL.VGG.DROPOUT": 0.0,
    "MODEL.PIXEL_STD": [57.0, 57.0, 57.0],
    "INPUT.SCALED_CROP.SIZE": 64,
    "MODEL.BANA.CRF.BILATERAL_XY_STD": 10.0,
    "MODEL.BANA.CRF.BILATERAL_RGB_STD": 20.0,
    "MODEL.BANA.CRF.ITERATIONS": 3,
    "MODEL.BANA.LR_FACTORS": [1.0, 1.0, 1.0],
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "INPUT.MIN_SIZE_TEST": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.STEPS": (),
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.BASE_LR": 0.05,
    "DATALOADER.NUM_WORKERS": 0,
    "PROXY.NUM_WORKERS": 0,
    "SEED": 3,
}


def make_cfg(keys: dict[str, Any] | None = None) -> CfgNode:
    """The tiny classifier, with other values for some keys."""
    opts = KEYS | (keys or {})
    return load_cfg(None, [word for name, value in opts.items() for word in (name, str(value))])


def make_classifier(keys: dict[str, Any] | None = None) -> BANAClassifier:
    """Not trained."""
    torch.manual_seed(5)
    return build_model(make_cfg(keys))


def dataset_keys(data: Path, output: Path) -> dict[str, Any]:
    """Keys of the dataset of :func:`tests.tiny.write_dataset` in ``data``."""
    return {
        "DATASETS.CUSTOM": [["tiny", str(data / "boxes.json"), str(data)]],
        "DATASETS.TRAIN": ("tiny",),
        "DATASETS.TEST": (),
        "OUTPUT_DIR": str(output),
    }


def make_sample(boxes: list[list[int]], classes: list[int], side: int = 64) -> dict[str, Any]:
    """As the training loader makes it."""
    background = torch.ones(side, side, dtype=torch.uint8)
    for x0, y0, x1, y1 in boxes:
        background[y0:y1, x0:x1] = 0
    instances = Instances((side, side))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return {
        "image": 255 * torch.rand(3, side, side),
        "background": background,
        "instances": instances,
    }


def make_inputs(boxes: list[list[float]], classes: list[int], size=(40, 56)) -> dict[str, Any]:
    """As a teacher gets it."""
    rng = np.random.default_rng(7)
    image = rng.integers(0, 100, (*size, 3), dtype=np.uint8)
    for box in boxes:
        x0, y0, x1, y1 = (int(v) for v in box)
        image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] += 120
    instances = Instances(size)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    instances.gt_boxes, instances.original_boxes = Boxes(corners), corners
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    instances.annotation_ids = torch.arange(11, 11 + len(classes))
    return {
        "image": torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy()),
        "original_image": image,
        "height": size[0],
        "width": size[1],
        "file_name": "x.png",
        "image_id": 1,
        "instances": instances,
    }
