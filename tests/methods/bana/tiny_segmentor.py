"""A BANASegmentor of a few channels, and a tiny dataset with the two labels that it trains on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from tests.tiny import SIZE, write_dataset
from wsis.config import load_cfg
from wsis.data.labels import instances_to_label
from wsis.data.source import load_source
from wsis.structures.boxes import box_to_slices, xywh_to_xyxy
from wsis.structures.pseudo_labels import write_label, write_manifest

NETWORK: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_atrous_vgg16_backbone",
    "MODEL.VGG.WIDTH": 1 / 16,
    "MODEL.VGG.NORM": "BN",
    "MODEL.VGG.DROPOUT": 0.0,
    "MODEL.PIXEL_STD": [57.0, 57.0, 57.0],
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "INPUT.MIN_SIZE_TEST": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "DATALOADER.NUM_WORKERS": 0,
}
KEYS = NETWORK | {
    "MODEL.META_ARCHITECTURE": "BANASegmentor",
    "MODEL.SEGMENTOR.LABELS": ["y_crf", "y_ret"],
    "INPUT.SCALED_CROP.SIZE": 48,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR",
}
RESNET: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": "build_atrous_resnet_backbone",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.BACKBONE.FREEZE_AT": 0,
}
ASPP = RESNET | {"MODEL.SEGMENTOR.HEAD": "aspp", "MODEL.SEGMENTOR.HEAD_CHANNELS": 8}


def make_cfg(base: dict[str, Any] = KEYS, **keys: Any) -> CfgNode:
    """The tiny VGG; keys with dots or with ``__`` for the dots."""
    opts = base | {name.replace("__", "."): value for name, value in keys.items()}
    return load_cfg(None, [word for name, value in opts.items() for word in (name, repr(value))])


def write_label_pair(folder: Path, number: int = 4) -> Path:
    """The tiny dataset of :mod:`tests.tiny` in ``folder/data``, and beside it ``labels`` with ``y_crf`` (the true
    masks, wrong in a corner of each) and ``y_ret`` (the boxes); returns ``labels``.
    """
    write_dataset(folder / "data", number=number)
    source = load_source(folder / "data" / "boxes.json", folder / "data")
    labels = folder / "labels"
    for image in source.images:
        y_crf = instances_to_label(source, image)
        y_ret = np.zeros_like(y_crf)
        for annotation in source.annotations_of(image["id"]):
            box = box_to_slices(xywh_to_xyxy(annotation["bbox"]), SIZE, SIZE)
            y_ret[box] = source.id_to_contiguous[annotation["category_id"]] + 1
        y_crf[:6, :6] = 2
        for name, label in (("y_crf", y_crf), ("y_ret", y_ret)):
            write_label(labels / name / Path(image["file_name"]).with_suffix(".png"), label)
    write_manifest(labels, {"method": "test"}, ["y_crf", "y_ret"], source.class_names)
    return labels


def data_entry(name: str, folder: Path, file: str = "boxes") -> list[Any]:
    """The entry of ``DATASETS.CUSTOM`` for ``folder/data``."""
    return [name, str(folder / "data" / f"{file}.json"), str(folder / "data")]


def label_entry(name: str, folder: Path, **labels: Path) -> list[Any]:
    """The entry of ``DATASETS.CUSTOM_SEM_SEG``, with other folders than those of :func:`write_label_pair`."""
    labels = labels or {label: folder / "labels" / label for label in ("y_crf", "y_ret")}
    return [*data_entry(name, folder), {label: str(path) for label, path in labels.items()}]


def view(pixels: np.ndarray) -> dict[str, Any]:
    """What eval mode is told of (H, W, 3) uint8 RGB."""
    image = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)))
    height, width = pixels.shape[:2]
    return {"image": image, "original_image": pixels, "height": height, "width": width}


def images(number: int, size: tuple[int, int] = (40, 56), seed: int = 5) -> list[dict[str, Any]]:
    """Inputs of eval mode."""
    rng = np.random.default_rng(seed)
    return [view(each) for each in rng.integers(0, 256, (number, *size, 3), dtype=np.uint8)]


def samples(number: int, side: int = 48, seed: int = 6) -> list[dict[str, torch.Tensor]]:
    """Inputs of training."""
    g = torch.Generator().manual_seed(seed)
    return [
        {
            "image": 255 * torch.rand(3, side, side, generator=g),
            "labels": torch.randint(3, (2, side, side), generator=g, dtype=torch.uint8),
        }
        for _ in range(number)
    ]
