"""CVAT's XML file of images ("CVAT for images 1.1")."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np

from wsis.data.formats.records import Imported, Item, Size, ellipse, points, ring_item, turned
from wsis.errors import DataError
from wsis.structures.polygons import window_to_rle

Element = ElementTree.Element


def read_cvat(source: Path, images: Path | None, names: list[str] | None = None) -> Imported:
    """Reads ``annotations.xml``.

    Args:
        source: the file, or the folder that it is in.
        images: folder of the images; by default the folder ``images`` beside the file, else the file's own.
        names: of the classes, in order; None = those found.

    Raises:
        DataError: no such file, not XML, or of CVAT's form for video.
    """
    path = source / "annotations.xml" if source.is_dir() else source
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file, expected CVAT's annotations.xml") from error
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not valid XML ({error})") from error
    if root.find("track") is not None:
        raise DataError(
            f"{path}: found tracks, which is CVAT's form for video; export as 'CVAT for images 1.1'"
        )
    if root.tag != "annotations" or root.find("image") is None:
        raise DataError(
            f"{path}: found no <image> in <annotations>, expected 'CVAT for images 1.1'"
        )
    beside = path.parent / "images"
    default = beside if beside.is_dir() else path.parent
    dataset = Imported("CVAT's XML file", images or default, names)
    for element in root.findall("image"):
        stated = element.get("name") or ""
        image = dataset.locate(PurePosixPath(stated), stated, _size_of(element))
        if image is not None:
            for number, shape in enumerate(element, start=1):
                _add(dataset, image, shape, f"{path} image {stated} shape {number}")
    dataset.count_unnamed()
    return dataset


def _size_of(element: Element) -> Size | None:
    height, width = element.get("height") or "", element.get("width") or ""
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() else None


def _add(dataset: Imported, image: str, shape: Element, where: str) -> None:
    make = SHAPES.get(shape.tag)
    if make is None:
        dataset.left_out.add(f"shapes of the kind {shape.tag}", where)
        return
    try:
        item = make(shape, dataset.sizes[image])
    except (TypeError, ValueError):
        dataset.left_out.add(f"shapes of the kind {shape.tag} whose numbers cannot be used", where)
        return
    if shape.tag == "box" and item.parts:
        dataset.notes.add("turned boxes, of which the upright box around them was taken", where)
    dataset.add(image, item, where)


def _name_and_group(shape: Element) -> tuple[str, str | None]:
    group = shape.get("group_id")
    return (shape.get("label") or "").strip(), None if group in (None, "0") else group


def _numbers(shape: Element, *keys: str) -> list[float]:
    """The numbers of attributes; one that is not there is a ValueError."""
    return [float(shape.get(key, "missing")) for key in keys]


def _box(shape: Element, size: Size) -> Item:
    name, _ = _name_and_group(shape)  # a group of boxes is several objects
    x0, y0, x1, y1 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    degrees = float(shape.get("rotation") or 0)
    if not degrees:
        return Item(name, np.array([x0, y0, x1, y1]))
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return ring_item(name, turned(corners, degrees, ((x0 + x1) / 2, (y0 + y1) / 2)))


def _polygon(shape: Element, size: Size) -> Item:
    name, group = _name_and_group(shape)
    ring = points([pair.split(",") for pair in (shape.get("points") or "").split(";")], 3)
    if ring is None:
        raise ValueError("points")
    return ring_item(name, ring, group)


def _ellipse(shape: Element, size: Size) -> Item:
    name, group = _name_and_group(shape)
    numbers = _numbers(shape, "cx", "cy", "rx", "ry")
    return ring_item(
        name, ellipse(numbers[:2], numbers[2:], float(shape.get("rotation") or 0)), group
    )


def _mask(shape: Element, size: Size) -> Item:
    name, group = _name_and_group(shape)
    x0, y0, width, height = (int(v) for v in _numbers(shape, "left", "top", "width", "height"))
    runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    if min(runs) < 0 or sum(runs) != width * height:
        raise ValueError("rle")
    window = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width).astype(bool)
    code = window_to_rle(window, x0, y0, *size)
    box = np.array([x0, y0, x0 + width, y0 + height], dtype=np.float64)
    return Item(name, box, (code,), group=group)


SHAPES: dict[str, Callable[[Element, Size], Item]] = {
    "box": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "mask": _mask,
}
"""How the kinds of shapes that enclose something are read."""
