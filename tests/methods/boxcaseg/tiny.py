"""A BoxCaseg of a few channels, and inputs for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from wsis.config import load_cfg

SIZE = 64
BOXES = torch.tensor([[8.0, 6, 40, 38], [20, 18, 56, 60], [2, 30, 30, 62]])
KEYS = {"WIDTH": 2, "STAGE1_WIDTH": 2, "NUM_BLOCKS": 1, "NUM_MODULES": [1, 1, 1], "CROP_SIZE": 32}
KEYS |= {"SALIENT_SIZE": 36, "TEST_SIZE": 32, "NORMALISATION": "unified", "CONFIDENCE": "exact"}
BACKBONE = (
    *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_efficientnet"),
    *("MODEL.TIMM.OUT_INDICES", "(0, 1, 2)", "MODEL.BOXCASEG.TRUNK", "backbone"),
    *("MODEL.BOXCASEG.DECODER_CHANNELS", 8, "INPUT.FORMAT", "RGB"),
)
"""Of a trunk from Detectron2's registry, of stride 2."""


def make_cfg(*opts: Any) -> CfgNode:
    """Crops of 32 px, four branches of 2 to 16 channels, on the CPU."""
    cfg = load_cfg(None, ["MODEL.META_ARCHITECTURE", "BoxCaseg", "MODEL.DEVICE", "cpu"])
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BOXCASEG.update(KEYS)
    cfg.merge_from_list(list(opts))
    return cfg


def make_model(*opts: Any) -> torch.nn.Module:
    """In eval mode, with weights that see contrast."""
    model = build_model(make_cfg(*opts)).eval()
    with torch.no_grad():
        for module in (*model.network.last_layer, *model.network.fcn):
            if isinstance(module, torch.nn.Conv2d):
                module.weight.normal_(std=0.5)
    return model


def make_inputs(boxes: torch.Tensor = BOXES) -> dict[str, Any]:
    """What a teacher gets for one image; the boxes are 10, 11, ..."""
    rng = np.random.default_rng(5)
    image = rng.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
    for x0, y0, x1, y1 in boxes.int().tolist():
        image[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4] += 60
    instances = Instances((SIZE, SIZE), gt_boxes=Boxes(boxes), original_boxes=boxes)
    instances.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    instances.annotation_ids = torch.arange(10, 10 + len(boxes))
    names = {"file_name": "", "image_id": 1, "height": SIZE, "width": SIZE}
    return {**names, "original_image": image, "instances": instances}


def make_batch(*salient: bool, size: int = 32) -> list[dict[str, Any]]:
    """Samples as the joint loader makes them."""
    return [
        {"image": torch.randn(3, size, size), "label": torch.rand(1, size, size).round()}
        | {"salient": each}
        for each in salient
    ]
