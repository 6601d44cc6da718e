"""Tiny COCO documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wsis.structures.boxes import mask_to_box
from wsis.structures.rle import encode_mask

Document = dict[str, Any]
SIZE = (40, 60)


def _square(x: int, y: int, width: int = 10, height: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


def _document(*objects: Document, categories: tuple[str, ...] = ("cat", "dog")) -> Document:
    """``objects``: annotations with ``mask`` (H, W) or None; image 1, category 10 unless said otherwise."""
    annotations = []
    for number, given in enumerate(objects, start=100):
        annotation = {"id": number, "image_id": 1, "category_id": 10, "iscrowd": 0, **given}
        mask = annotation.pop("mask", None)
        if mask is not None:
            annotation["segmentation"] = encode_mask(mask)
            box = mask_to_box(mask)
            if box is not None and "bbox" not in annotation:
                x0, y0, x1, y1 = box.tolist()
                annotation["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        annotations.append(annotation)
    image_ids = sorted({a["image_id"] for a in annotations} | {1})
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
            for i in image_ids
        ],
        "categories": [{"id": 10 * i, "name": n} for i, n in enumerate(categories, start=1)],
        "annotations": annotations,
    }


@pytest.fixture
def square() -> Callable[..., np.ndarray]:
    """``square(x, y, width=10, height=10)``: a (40, 60) bool mask."""
    return _square


@pytest.fixture
def document() -> Callable[..., Document]:
    """``document(*annotations, categories=...)``, see :func:`_document`."""
    return _document
