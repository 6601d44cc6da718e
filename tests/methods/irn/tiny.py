"""IRNet on a ResNet of a few channels."""

from __future__ import annotations

from typing import Any

import torch

from tests.methods.bana import tiny_segmentor
from tests.tiny import SIZE
from wsis.engine import WsisTrainer
from wsis.methods.irn import IRN
from wsis.modeling.seed_reader import SeedReader

NETWORK = tiny_segmentor.RESNET | {
    "MODEL.META_ARCHITECTURE": "IRN",
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_resnet_stride16_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["stem", "res2", "res3", "res4", "res5"],
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.PIXEL_STD": [57.0] * 3,
    "MODEL.IRN.MIN_SIDE": 0,
    "MODEL.IRN.RADIUS": 5,
    "MODEL.SEGMENTOR.LABELS": ["ir_label"],
    "INPUT.SCALED_CROP.SIZE": SIZE,
    "INPUT.SCALED_CROP.JITTER": 0.0,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_ITER": 3,
    "SOLVER.BASE_LR": 0.1,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR",
}


def make_model() -> IRN:
    """With a reader of no maps."""
    torch.manual_seed(2)
    model: Any = WsisTrainer.build_model(tiny_segmentor.make_cfg(NETWORK))
    model.reader = SeedReader(())
    return model


def make_batch() -> list[dict[str, torch.Tensor]]:
    """Two training samples of one label each."""
    return [each | {"labels": each["labels"][:1]} for each in tiny_segmentor.samples(2)]


def make_inputs() -> dict[str, Any]:
    """One image, which the network sees at another size than its own."""
    (view,) = tiny_segmentor.images(1)
    return view | {"height": 50, "width": 70, "file_name": "a.png", "image_id": 1, "tags": [1]}
