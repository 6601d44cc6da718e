"""COCO documents and image files, made in one line."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsis.data.source import CocoSource, load_source

Document = dict[str, Any]


def coco(*annotations: Document, images: Any = 1, categories: Any = None, **more: Any) -> Document:
    """A document: annotations number 1, 2, ..., of image 1 and of the first category unless they say so.

    Args:
        annotations: their keys beside these.
        images: how many of 10 x 12 pixels, named 1.png, 2.png, ..., or the list itself.
        categories: names by id; cat and dog by default.
        more: further keys of the document.
    """
    names = categories or {9: "cat", 4: "dog"}
    if isinstance(images, int):
        size = {"height": 10, "width": 12}
        images = [{"id": i, "file_name": f"{i}.png", **size} for i in range(1, images + 1)]
    first = {"image_id": 1, "category_id": next(iter(names))}
    return {
        "images": images,
        "categories": [{"id": i, "name": name} for i, name in names.items()],
        "annotations": [{"id": i, **first, **a} for i, a in enumerate(annotations, start=1)],
        **more,
    }


def changed(document: Document, path: tuple[Any, ...], value: Any) -> Document:
    """The document with one place set to a value; ``...`` removes it."""
    node = document = copy.deepcopy(document)
    for key in path[:-1]:
        node = node[key]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return document


def write_json(path: Path, document: Any) -> str:
    """Writes a document, or a text as it is; returns the path."""
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def source_of(folder: Path, document: Any, **options: Any) -> CocoSource:
    """The document read from ``a.json`` in a folder, which the images are in, too."""
    return load_source(write_json(folder / "a.json", document), folder, **options)


def save_turned(path: Path, pixels: np.ndarray, orientation: int, **options: Any) -> Path:
    """Saves an image whose EXIF says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path
