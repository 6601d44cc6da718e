"""Small COCO datasets on disk."""

import uuid
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from tests.data.builders import Document, coco, write_json
from wsis.config import CfgNode, get_cfg
from wsis.data.prepare import mask_annotation
from wsis.data.registration import prepare_datasets, register_dataset

SIZE = (48, 64)


def ellipse(rng: np.random.Generator) -> np.ndarray:
    """A mask of any size."""
    mask = np.zeros(SIZE, dtype=np.uint8)
    centre = int(rng.integers(10, 54)), int(rng.integers(10, 38))
    axes = int(rng.integers(4, 20)), int(rng.integers(4, 14))
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask.astype(bool)


@pytest.fixture
def make_document(tmp_path) -> Callable[..., Document]:
    """``make_document(objects=(2, 0, 3), info=None)``: images on disk, and their COCO document.

    ``objects`` says how many annotations each image has; they carry exact masks.
    """

    def make(objects: tuple[int, ...] = (2, 0, 3), info: Document | None = None) -> Document:
        rng = np.random.default_rng(5)
        images, annotations = [], []
        for image_id, number in enumerate(objects, start=1):
            name = f"{image_id}.png"
            cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
            images.append({"id": image_id, "file_name": name, "height": 48, "width": 64})
            for _ in range(number):
                ids = {"id": 100 + len(annotations), "image_id": image_id}
                made = mask_annotation(ellipse(rng), (4, 9)[len(annotations) % 2])
                annotations.append({**ids, **made})
        names = {4: "cat", 9: "dog"}
        return coco(*annotations, images=images, categories=names, info=info or {})

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
        path = write_json(tmp_path / f"{name}.json", document)
        register_dataset(name, path, str(tmp_path))
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
