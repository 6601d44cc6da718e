"""ICAM and AffinityNet on a ResNet-38 of a few channels, and what they are fed with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from tests.tiny import SIZE, write_config, write_dataset, write_json
from wsis.config import get_cfg, load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer

NETWORK: dict[str, Any] = {
    "MODEL__BACKBONE": {"NAME": "build_resnet38_backbone", "FREEZE_AT": 0},
    "MODEL__RESNET38": {"WIDTH": 1 / 32, "NORMS": "trained", "DROPOUT": [0.0, 0.0]},
    "MODEL__ROI_HEADS__NUM_CLASSES": 2,
    "MODEL__SEM_SEG_HEAD__NUM_CLASSES": 3,
    "INPUT__FORMAT": "RGB",
    "INPUT__MIN_SIZE_TEST": 0,
    "MODEL__PIXEL_STD": [57.0] * 3,
    "PROXY__NUM_WORKERS": 0,
    "WSIS__SUPERVISION": "image",
}
ICAM = NETWORK | {
    "MODEL__META_ARCHITECTURE": "ICAM",
    "MODEL__ICAM": {"CHANNELS": [4, 8], "DROPOUT": 0.0, "CRF_ALPHAS": [], "LOSS": {"SAMPLES": 20}},
    "INPUT__TAG_CROP": {"RESIZE": SIZE, "SIZE": SIZE, "TEST": "whole"},
}
BOX = {name: value for name, value in NETWORK.items() if "MIN_SIZE" not in name} | {
    "MODEL__META_ARCHITECTURE": "ICAMBox",
    "MODEL__ICAM_BOX": {"CHANNELS": [4, 8], "DROPOUT": 0.0, "TIGHTNESS_WEIGHT": 0.5},
    "WSIS__SUPERVISION": "box",
}
AFFINITY = NETWORK | {
    "MODEL__META_ARCHITECTURE": "AffinityNet",
    "MODEL__AFFINITY_NET": {"CHANNELS": [4, 8, 4], "RADIUS": 3},
    "INPUT__SCALED_CROP": {"SIZE": SIZE, "SCALE_RANGE": [1.0, 1.0]},
}


def write_tagged(folder: Path) -> None:
    """Three images; the first has two tags, the last none, and there are no boxes."""
    document = write_dataset(folder, number=3)
    for image, tags in zip(document["images"], ([3, 7], [7], []), strict=True):
        image["image_labels"] = tags
    for annotation in document["annotations"]:
        del annotation["bbox"], annotation["segmentation"]
    write_json(folder, document)


def make_cfg(folder: Path, data: Path, keys: dict[str, Any], **more: Any) -> CfgNode:
    """The config of a run in ``folder``, its data prepared."""
    cfg = load_cfg(write_config(folder, data, **copy.deepcopy(keys) | more))
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg


def bare_cfg(keys: dict[str, Any]) -> CfgNode:
    """The config of a model alone."""
    cfg = get_cfg()
    for name, value in {"MODEL__DEVICE": "cpu", **keys}.items():
        for part in reversed(name.split("__")):
            value = {part: value}
        cfg.merge_from_other_cfg(CfgNode(copy.deepcopy(value)))
    return cfg


def save_weights(cfg: CfgNode, path: Path) -> None:
    """Random ones; the config then names them."""
    torch.manual_seed(1)
    torch.save({"model": WsisTrainer.build_model(cfg).state_dict()}, path)
    cfg.MODEL.WEIGHTS = str(path)


def make_batch() -> list[dict[str, torch.Tensor]]:
    """Two samples of training."""
    images = 255 * torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    cells = torch.randint(3, (2, 8, 8), generator=torch.Generator().manual_seed(3))
    tags = torch.tensor([[1.0, 0], [1, 1]])
    samples = zip(images, tags, cells.to(torch.uint8), strict=True)
    return [{"image": i, "tags": t, "cells": c} for i, t, c in samples]


def make_box_batch() -> list[dict[str, Any]]:
    """The same images with one and two boxes."""
    parts = [[[4, 6, 40, 50]], [[0, 0, 30, 20], [10, 12, 60, 64]]]
    batch = []
    for sample, boxes in zip(make_batch(), parts, strict=True):
        instances = Instances((SIZE, SIZE), gt_boxes=Boxes(torch.tensor(boxes).float()))
        instances.gt_classes = torch.arange(len(boxes))
        batch.append({"image": sample["image"], "instances": instances})
    return batch
