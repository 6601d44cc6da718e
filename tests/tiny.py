"""A dataset and a config so small that training them takes seconds."""

import contextlib
import copy
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from tests.data.builders import coco
from tests.masks import rectangle
from wsis.data.prepare import mask_annotation
from wsis.layers.box_shapes import filled_box
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import ProxyMasks, Seed

SIZE = 64


def write_dataset(folder: Path, number: int = 4, empty: int = 0) -> dict[str, Any]:
    """Images with one bright rectangle of two classes, and ``boxes.json`` (with masks); returns the document.

    The last ``empty`` of them have no annotation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    images, annotations = [], []
    for image_id in range(1, number + 1):
        pixels = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
        tall = image_id % 2
        x, y = (int(v) for v in rng.integers(4, 24, 2))
        width, height = (14, 30) if tall else (30, 14)
        name = f"{image_id}.png"
        images.append({"id": image_id, "file_name": name, "height": SIZE, "width": SIZE})
        if image_id <= number - empty:
            mask = rectangle((SIZE, SIZE), x, y, x + width, y + height)
            pixels[mask] += 120
            made = mask_annotation(mask, 7 if tall else 3)
            annotations.append({"id": 50 + image_id, "image_id": image_id, **made})
        cv2.imwrite(str(folder / name), pixels)
    document = coco(*annotations, images=images, categories={3: "wide", 7: "tall"})
    write_json(folder, document)
    return document


def write_json(folder: Path, document: Any) -> None:
    """Replaces ``boxes.json``."""
    (folder / "boxes.json").write_text(json.dumps(document))


STAGES, LEVELS = [f"res{i}" for i in range(2, 6)], [f"p{i}" for i in range(2, 6)]
MODEL: dict[str, Any] = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "DEVICE": "cpu",
    "MASK_ON": False,
    "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 0},
    "RESNETS": {"DEPTH": 50, "NORM": "BN", "OUT_FEATURES": STAGES}
    | {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 8, "WIDTH_PER_GROUP": 4},
    "FPN": {"IN_FEATURES": STAGES, "OUT_CHANNELS": 16},
    "ANCHOR_GENERATOR": {"SIZES": [[8], [16], [32], [64], [128]]},
    "RPN": {"IN_FEATURES": [*LEVELS, "p6"], "POST_NMS_TOPK_TRAIN": 50, "POST_NMS_TOPK_TEST": 20},
    "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": LEVELS, "BATCH_SIZE_PER_IMAGE": 32},
    "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 1, "FC_DIM": 32}
    | {"POOLER_RESOLUTION": 7},
    "ROI_MASK_HEAD": {"NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 1, "CONV_DIM": 16}
    | {"POOLER_RESOLUTION": 7},
}
"""A Faster R-CNN with 16 channels."""


def write_config(folder: Path, data: Path, **changes: Any) -> Path:
    """``config.yaml`` of a Faster R-CNN with 16 channels for the dataset in ``data``, which is named ``tiny``.

    ``OUTPUT_DIR`` is ``out`` beside it; changes are keys with ``__`` for the dots, ``SOLVER__MAX_ITER=4``.
    """
    config: dict[str, Any] = {
        "MODEL": copy.deepcopy(MODEL),
        "DATASETS": {"CUSTOM": [["tiny", str(data / "boxes.json"), str(data)]]}
        | {"TRAIN": ["tiny"], "TEST": []},
        "INPUT": {"MIN_SIZE_TRAIN": [SIZE], "MIN_SIZE_TEST": SIZE}
        | {"RANDOM_FLIP": "none", "MASK_FORMAT": "bitmask"},
        "SOLVER": {"IMS_PER_BATCH": 4, "BASE_LR": 0.01, "MAX_ITER": 4, "WARMUP_ITERS": 2},
        "DATALOADER": {"NUM_WORKERS": 0},
        "OUTPUT_DIR": str(folder / "out"),
        "SEED": 3,
        "VERSION": 2,
    }
    for key, value in changes.items():
        node = config
        *path, last = key.split("__")
        for name in path:
            node = node.setdefault(name, {})
        node[last] = copy.deepcopy(value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def teacher_config(folder: Path, data: Path, **changes: Any) -> Path:
    """:func:`write_config` of a :class:`TinyTeacher`."""
    changes = {"MODEL__META_ARCHITECTURE": "TinyTeacher", "SOLVER__BASE_LR": 0.02, **changes}
    return write_config(folder, data, **changes)


@META_ARCH_REGISTRY.register()
class TinyTeacher(Teacher):
    """Learns the mean area of an image's boxes, without any chance; its masks are the boxes."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 5, stride=4)
        self.head = nn.Linear(4, 1)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """In training a loss that is the mean over the images."""
        if not self.training:
            return super().forward(batched_inputs)
        images = torch.stack([each["image"] for each in batched_inputs]) / 128 - 1
        area = torch.stack([each["instances"].gt_boxes.area().sum() for each in batched_inputs])
        features = self.encoder(images).relu().mean((2, 3))
        return {"loss_area": (self.head(features)[:, 0] - area / 400).square().mean()}

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`."""
        return [seed_from_inputs(inputs) for inputs in batched_inputs]

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return _fill


def _fill(seed: Seed, image: np.ndarray) -> ProxyMasks:
    return ProxyMasks.from_crops(seed, [filled_box(box, *image.shape[:2]) for box in seed.boxes])


@contextlib.contextmanager
def loggers_as_before() -> Iterator[None]:
    """Detectron2 gives its loggers handlers that write to this test's captured output."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "wsis")]
    before = [(each.handlers[:], each.propagate, each.level) for each in loggers]
    yield
    for each, (handlers, propagate, level) in zip(loggers, before, strict=True):
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)
