"""Which format files are of, so that a wrong choice can be put right in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HEAD = 100_000
"""Bytes that are looked at of a table or an XML file."""


def recognise(path: Path) -> str:
    """The name of the format, as ``datasets/prepare_boxes.py --from`` has it, "coco" for COCO JSON; "" = not known.

    Args:
        path: a file, or a folder, of which the first file of a known format counts.
    """
    if path.is_file():
        kind = KINDS.get(path.suffix.lower())
        try:
            return kind(path) if kind else ""
        except (OSError, ValueError, RecursionError):
            return ""
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in KINDS and p.is_file())
    return next(filter(None, map(recognise, files[:20])), "")


def format_of_json(document: Any) -> str:
    """The format of a parsed JSON file, see :func:`recognise`."""
    if not isinstance(document, dict):
        return ""
    if isinstance(document.get("shapes"), list):
        return "labelme"
    entries = document.get("_via_img_metadata", document)
    if isinstance(entries, dict) and entries:
        first = next(iter(entries.values()))
        if isinstance(first, dict) and {"filename", "regions"} <= first.keys():
            return "via"
    return "coco" if {"images", "annotations"} <= document.keys() else ""


def _head(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(_HEAD).decode("utf-8", errors="replace")


def _of_json(path: Path) -> str:
    return format_of_json(json.loads(path.read_bytes()))


def _of_xml(path: Path) -> str:
    head = _head(path)
    return "cvat" if "<annotations" in head else "voc" if "<annotation>" in head else ""


def _of_csv(path: Path) -> str:
    first = _head(path).partition("\n")[0]
    if "ImageID" in first and "XMin" in first:
        return "openimages"
    return "via" if "region_shape_attributes" in first else ""


def _of_yaml(path: Path) -> str:
    head = _head(path)
    return "yolo" if "names:" in head and ("train:" in head or "val:" in head) else ""


def _of_text(path: Path) -> str:
    words = _head(path).partition("\n")[0].split()
    numbers = [word for word in words if word.replace(".", "", 1).isdecimal()]
    return "yolo" if len(words) >= 5 and len(numbers) == len(words) else ""


KINDS: dict[str, Callable[[Path], str]] = {
    ".json": _of_json,
    ".xml": _of_xml,
    ".csv": _of_csv,
    ".yaml": _of_yaml,
    ".yml": _of_yaml,
    ".txt": _of_text,
}
"""How the files of each suffix are told apart."""
