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

KEYS: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": "BANASegmentor",
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_atrous_vgg16_backbone",
    "MODEL.VGG.WIDTH": 1 / 16,
    "MODEL.VGG.NORM": "BN",
    "MODEL.VGG.DROPOUT": 0.0,
    "MODEL.PIXEL_STD": [57.0, 57.0, 57.0],
    "MODEL.SEGMENTOR.LABELS": ["y_crf", "y_ret"],
    "INPUT.SCALED_CROP.SIZE": 48,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "INPUT.MIN_SIZE_TEST": 0,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR",
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "DATALOADER.NUM_WORKERS": 0,
}
RESNET: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": "build_atrous_resnet_backbone",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.SEGMENTOR.HEAD": "aspp",
    "MODEL.SEGMENTOR.HEAD_CHANNELS": 8,
}


def make_cfg(**keys: Any) -> CfgNode:
    """The tiny VGG; keys with ``__`` for the dots."""
    opts = KEYS | {name.replace("__", "."): value for name, value in keys.items()}
    return load_cfg(None, [word for pair in opts.items() for word in (pair[0], repr(pair[1]))])


def flat(keys: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as :func:`make_cfg` takes them."""
    return {name.replace(".", "__"): value for name, value in keys.items()}


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
        name = Path(image["file_name"]).with_suffix(".png")
        write_label(labels / "y_crf" / name, y_crf)
        write_label(labels / "y_ret" / name, y_ret)
    write_manifest(labels, {"method": "test"}, ["y_crf", "y_ret"], source.class_names)
    return labels


def custom(name: str, folder: Path, labels: Path) -> list[Any]:
    """The entry of ``DATASETS.CUSTOM_SEM_SEG``."""
    data = folder / "data"
    folders = {label: str(labels / label) for label in ("y_crf", "y_ret")}
    return [name, str(data / "boxes.json"), str(data), folders]


def images(number: int, size: tuple[int, int] = (40, 56), seed: int = 5) -> list[dict[str, Any]]:
    """Inputs of eval mode."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (number, *size, 3), dtype=np.uint8)
    return [
        {
            "image": torch.from_numpy(np.ascontiguousarray(p[:, :, ::-1].transpose(2, 0, 1))),
            "original_image": p,
            "height": size[0],
            "width": size[1],
        }
        for p in pixels
    ]


def samples(number: int, side: int = 48, seed: int = 6) -> list[dict[str, torch.Tensor]]:
    """Inputs of training."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": 255 * torch.rand(3, side, side, generator=generator),
            "labels": torch.randint(3, (2, side, side), generator=generator, dtype=torch.uint8),
        }
        for _ in range(number)
    ]
