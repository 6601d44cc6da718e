"""Small COCO datasets on disk."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from wsis.config import CfgNode, get_cfg
from wsis.data.registration import prepare_datasets, register_dataset
from wsis.structures.boxes import mask_to_box
from wsis.structures.rle import encode_mask

Document = dict[str, Any]
SIZE = (48, 64)


def _masks(rng: np.random.Generator, number: int) -> list[np.ndarray]:
    """Ellipses of many sizes."""
    masks = []
    for _ in range(number):
        mask = np.zeros(SIZE, dtype=np.uint8)
        centre = int(rng.integers(10, 54)), int(rng.integers(10, 38))
        axes = int(rng.integers(4, 20)), int(rng.integers(4, 14))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        masks.append(mask.astype(bool))
    return masks


@pytest.fixture
def make_document(tmp_path) -> Callable[..., Document]:
    """``make_document(objects=(2, 0, 3), info=None)``: images on disk, and their COCO document.

    ``objects`` says how many annotations each image has; they carry exact masks.
    """

    def make(objects: tuple[int, ...] = (2, 0, 3), info: Document | None = None) -> Document:
        rng = np.random.default_rng(5)
        document: Document = {
            "info": info or {},
            "images": [],
            "annotations": [],
            "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
        }
        for image_id, number in enumerate(objects, start=1):
            name = f"{image_id}.png"
            pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / name), pixels)
            image = {"id": image_id, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            document["images"].append(image)
            for mask in _masks(rng, number):
                x0, y0, x1, y1 = mask_to_box(mask).tolist()
                annotation_id = 100 + len(document["annotations"])
                document["annotations"].append(
                    {
                        "id": annotation_id,
                        "image_id": image_id,
                        "category_id": (4, 9)[annotation_id % 2],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                        "segmentation": encode_mask(mask),
                    }
                )
        return document

    return make


@pytest.fixture
def name() -> str:
    """A name that no dataset has."""
    return f"test_{uuid.uuid4().hex}"


@pytest.fixture
def register(tmp_path) -> Callable[[Document], str]:
    """``register(document)``: writes it beside its images and returns its new name."""

    def write(document: Document) -> str:
        name = f"test_{uuid.uuid4().hex}"
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        register_dataset(name, str(path), str(tmp_path))
        return name

    return write


@pytest.fixture
def make_cfg() -> Callable[..., CfgNode]:
    """``make_cfg(train=(), test=(), *opts)``: a small config, its datasets read and checked."""

    def make(*opts: Any, train: tuple[str, ...] = (), test: tuple[str, ...] = ()) -> CfgNode:
        cfg = get_cfg()
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, test
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (40, 72), 100
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 96, 200
        cfg.INPUT.MASK_FORMAT = "bitmask"
        cfg.SOLVER.IMS_PER_BATCH = 2
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.merge_from_list(list(opts))
        prepare_datasets(cfg, (*train, *test))
        return cfg

    return make
