"""Files of the VGG Image Annotator, version 1 and 2: a project, or its regions as JSON or CSV."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from wsis.data.formats.open_images import csv_rows
from wsis.data.formats.records import Imported, Item, ellipse, points, ring_item
from wsis.errors import ConfigError, DataError
from wsis.structures.proxy_file import read_json

Region = tuple[str, dict[str, Any], dict[str, Any]]
"""Where it stands, attributes of the shape, attributes that people gave it."""
ONLY_CLASS = "object"
"""The class of a file whose regions have no attribute."""
ATTRIBUTES = ("shape_attributes", "region_attributes")
SHAPES = ("rect", "polygon", "circle", "ellipse")


def read_via(
    source: Path, images: Path | None, names: list[str] | None = None, label_key: str = ""
) -> Imported:
    """Reads one file.

    Args:
        source: JSON or CSV.
        images: folder of the images; by default the file's folder.
        names: of the classes, in order; None = those found.
        label_key: the attribute of a region that is its class; "" = the only one that there is.

    Raises:
        ConfigError: ``label_key`` is none of the attributes, or is needed.
        DataError: not a file of VIA's.
    """
    regions = _csv_regions(source) if source.suffix.lower() == ".csv" else _json_regions(source)
    key = _class_key([r for found in regions.values() for r in found], label_key, source)
    dataset = Imported("a file of VIA's", images or source.parent, names)
    if not key:
        dataset.notes.add(f"regions without attributes, whose class is now {ONLY_CLASS!r}", source)
    for stated, found in regions.items():
        image = dataset.locate(PurePosixPath(stated), stated)
        for where, shape, attributes in found if image is not None else ():
            kind = shape.get("name")
            if kind not in SHAPES:
                dataset.left_out.add(f"regions of the kind {kind}", where)
                continue
            name = _chosen(attributes.get(key)) if key else ONLY_CLASS
            try:
                item = _item(name, shape)
            except (KeyError, TypeError, ValueError):
                text = f"regions of the kind {kind} whose numbers cannot be used"
                dataset.left_out.add(text, where)
            else:
                dataset.add(str(image), item, where)
    dataset.count_unnamed()
    return dataset


def _item(name: str, shape: dict[str, Any]) -> Item:
    """The object of a region; KeyError, TypeError or ValueError where it says too little."""

    def numbers(*keys: str) -> list[float]:
        return [float(shape[key]) for key in keys]

    kind = shape["name"]
    if kind == "rect":
        x, y, width, height = numbers("x", "y", "width", "height")
        return Item(name, np.array([x, y, x + width, y + height]))
    if kind == "circle":
        x, y, radius = numbers("cx", "cy", "r")
        return ring_item(name, ellipse((x, y), (radius, radius)))
    if kind == "ellipse":
        degrees = np.degrees(float(shape.get("theta") or 0))
        radii = numbers("rx", "ry")
        return ring_item(name, ellipse(numbers("cx", "cy"), radii, degrees))
    pairs = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
    ring = points([list(pair) for pair in pairs], 3)
    if ring is None:
        raise ValueError("points")
    return ring_item(name, ring)


def _json_regions(path: Path) -> dict[str, list[Region]]:
    """Regions by image."""
    document = read_json(path)
    if isinstance(document, dict):
        if "file" in document and "view" in document:
            raise DataError(
                f"{path}: a project of VIA 3, expected a file of version 1 or 2; wsis reads COCO JSON, too"
            )
        document = document.get("_via_img_metadata", document)
    entries = list(document.values()) if isinstance(document, dict) else []
    if not entries or not all(
        isinstance(e, dict) and "filename" in e and "regions" in e for e in entries
    ):
        raise DataError(
            f"{path}: not a file of VIA's, expected a project, or entries with filename and regions"
        )
    found: dict[str, list[Region]] = {}
    for entry in entries:
        of_image = found.setdefault(str(entry["filename"]), [])
        regions = entry["regions"]
        if isinstance(regions, dict):
            regions = list(regions.values())
        elif not isinstance(regions, list):
            regions = [regions] if regions else []
        for number, region in enumerate(map(_as_dict, regions), start=1):
            shape, attributes = (_as_dict(region.get(key)) for key in ATTRIBUTES)
            of_image.append((f"{path} {entry['filename']} region {number}", shape, attributes))
    return found


def _csv_regions(path: Path) -> dict[str, list[Region]]:
    """Regions by image; the columns of version 1 begin with a sign for a comment."""
    found: dict[str, list[Region]] = {}
    columns = ("region_shape_attributes", "region_attributes")
    for where, row in csv_rows(path, columns):
        of_image = found.setdefault(row.get("filename") or row.get("#filename") or "", [])
        try:
            shape, attributes = (_as_dict(json.loads(row[key] or "{}")) for key in columns)
        except ValueError as error:
            raise DataError(
                f"{where}: the attributes of a region are not JSON ({error})"
            ) from error
        if shape:  # an image without regions has one row
            of_image.append((where, shape, attributes))
    return found


def _class_key(regions: Iterable[Region], label_key: str, path: Path) -> str:
    """The attribute that is the class, "" where regions have none."""
    counts = Counter(key for _, _, attributes in regions for key in attributes)
    if label_key and label_key not in counts:
        raise ConfigError(
            f"--label-key: found {label_key}, but regions of {path} have {', '.join(counts) or 'no attribute'}"
        )
    if not label_key and len(counts) > 1:
        raise ConfigError(
            f"{path}: regions have the attributes {', '.join(sorted(counts))}; name the one that is the class by "
            "--label-key"
        )
    return label_key or next(iter(counts), "")


def _as_dict(value: Any) -> dict[str, Any]:
    """A JSON object, an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}


def _chosen(value: Any) -> str:
    """The class that an attribute says: a text, or the only box that is ticked; "" for none."""
    if isinstance(value, dict):
        ticked = [key for key, on in value.items() if on is True or on == "true"]
        return ticked[0] if len(ticked) == 1 else ""
    return str(value or "").strip()
