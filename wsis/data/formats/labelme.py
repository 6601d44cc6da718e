"""LabelMe's JSON files, one per image."""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from wsis.data.formats.records import Imported, Item, Size, Tally, ellipse, points, ring_item
from wsis.data.prepare import IMAGE_ERRORS, require_folder
from wsis.data.values import is_integer
from wsis.errors import DataError
from wsis.structures.polygons import window_to_rle
from wsis.structures.proxy_file import read_json

EXPORTED = re.compile(r"id (\d{1,18})\b")
"""What the description of a shape begins with that :mod:`wsis.data.formats.writers` has written."""


def read_labelme(source: Path, images: Path | None, names: list[str] | None = None) -> Imported:
    """Reads every JSON file of a folder and of its subfolders, or one file.

    Args:
        source: the folder or the file.
        images: folder of the images; by default ``source``.
        names: of the classes, in order; None = those found.

    Raises:
        DataError: no such folder, no file of LabelMe's in it, or one that is not JSON.
    """
    folder = source.parent if source.is_file() else require_folder(source, "LabelMe's JSON files")
    files = [source] if source.is_file() else sorted(folder.rglob("*.json"))
    dataset = Imported("LabelMe's JSON files", images or folder, names)
    owners: dict[str, Path] = {}
    known = 0
    for path in files:
        document = read_json(path)
        if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
            dataset.left_out.add("JSON files that are not LabelMe's", path)
            continue
        known += 1
        near = PurePosixPath(path.relative_to(folder).as_posix())
        image = dataset.locate(near, str(document.get("imagePath") or ""), stated_size(document))
        if image is not None:
            if image in owners:
                both = f"{owners[image]} and {path}"
                dataset.notes.add("images with two files, whose objects are all taken", both)
            owners[image] = path
            for where, item in parse_shapes(
                document["shapes"], path, dataset.sizes[image], dataset.left_out
            ):
                dataset.add(image, item, where)
    if not known:
        raise DataError(f"{source}: found no JSON file with LabelMe's key 'shapes'")
    dataset.count_unnamed()
    return dataset


def stated_size(document: dict[str, Any]) -> Size | None:
    """The size that a file says its image has."""
    height, width = document.get("imageHeight"), document.get("imageWidth")
    if is_integer(height) and is_integer(width) and height and width:
        return int(height), int(width)
    return None


def parse_shapes(
    shapes: list[Any], path: Path, size: Size, left_out: Tally
) -> Iterable[tuple[str, Item]]:
    """The objects of one file, each with the place that it stands at.

    Args:
        shapes: of the file.
        path: the file, for messages.
        size: of its image.
        left_out: counts the shapes that cannot be used.
    """
    for number, shape in enumerate(shapes, start=1):
        where = f"{path} shape {number}"
        if not isinstance(shape, dict):
            left_out.add("shapes that are none", where)
            continue
        kind = shape.get("shape_type") or "polygon"  # the first versions knew no other
        name = str(shape.get("label") or "").strip()
        group = shape.get("group_id")
        found: Item | None = None
        if kind in ("polygon", "oriented_rectangle"):
            ring = points(shape.get("points"), 3)
            found = None if ring is None else ring_item(name, ring, group)
        elif kind in ("rectangle", "circle", "mask"):
            ring = points(shape.get("points"), 2)
            found = None if ring is None else _of_two(kind, name, ring, shape, size, group)
        else:
            left_out.add(f"shapes of the kind {kind}", where)
            continue
        if found is None:
            left_out.add(f"shapes of the kind {kind} whose points cannot be used", where)
        else:
            exported = EXPORTED.match(str(shape.get("description") or ""))
            yield where, replace(found, annotation_id=int(exported[1]) if exported else None)


def _of_two(
    kind: str, name: str, ring: np.ndarray, shape: dict[str, Any], size: Size, group: Any
) -> Item | None:
    """What two points stand for: corners of a rectangle or of a mask's window, or centre and edge of a circle."""
    if kind == "circle":
        radius = math.dist(ring[0], ring[1])
        return ring_item(name, ellipse(ring[0], (radius, radius)), group)
    low, high = ring.min(axis=0), ring.max(axis=0)
    if kind == "rectangle":
        return Item(name, np.concatenate([low, high]), group=group)
    try:
        with Image.open(
            io.BytesIO(base64.b64decode(shape.get("mask") or "", validate=True))
        ) as png:
            window = np.asarray(png.convert("L")) > 0
    except (*IMAGE_ERRORS, TypeError, binascii.Error):
        return None
    x0, y0 = (int(v) for v in low)
    box = np.array([x0, y0, x0 + window.shape[1], y0 + window.shape[0]], dtype=np.float64)
    return Item(name, box, (window_to_rle(window, x0, y0, *size),), group=group)
