"""Classes by name: the same ones may have other ids in another export, and weights remember theirs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsis.data.source import CocoSource
from wsis.data.source_checks import is_integer

Categories = list[dict[str, Any]]
"""``id`` and ``name`` of classes, in the order of the contiguous index, which is that of the ids."""

CLASSES_FILE = "classes.json"
"""Beside ``config.yaml`` and the checkpoints of a training: its classes."""


def categories_of(source: CocoSource, class_agnostic: bool = False) -> Categories:
    """The classes that a model learns from a source."""
    if class_agnostic:
        return [{"id": 1, "name": "object"}]
    ordered = sorted(source.categories, key=lambda category: category["id"])
    return [{"id": category["id"], "name": category["name"]} for category in ordered]


def names_of(categories: Categories) -> list[str]:
    """Their names, in order."""
    return [category["name"] for category in categories]


def matched(source: CocoSource, categories: Categories) -> CocoSource | None:
    """A source with these categories in place of its own, each found by its name.

    Args:
        source: the data.
        categories: of another source or of weights; may be more than the source has.

    Returns:
        The source itself where the order of its classes is the same; None where a class is not among the categories, or
        a name is there twice.
    """
    if source.class_names == names_of(categories):
        return source
    theirs = {category["name"]: category["id"] for category in categories}
    ids = {c["id"]: theirs.get(c["name"]) for c in source.categories}
    if None in ids.values() or len(set(ids.values())) < len(ids) or len(theirs) < len(categories):
        return None
    images = [
        {**image, "image_labels": [ids[tag] for tag in image["image_labels"]]}
        if "image_labels" in image
        else image
        for image in source.images
    ]
    annotations = [{**a, "category_id": ids[a["category_id"]]} for a in source.annotations]
    return replace(source, images=images, annotations=annotations, categories=categories)


def brief(names: Sequence[str]) -> str:
    """Some names in short."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def as_categories(value: Any) -> Categories:
    """What a checkpoint or :data:`CLASSES_FILE` holds, if it is a list of categories; else nothing."""
    if not isinstance(value, list):
        return []
    for category in value:
        if not isinstance(category, dict) or not isinstance(category.get("name"), str):
            return []
        if not is_integer(category.get("id")):
            return []
    return [{"id": category["id"], "name": category["name"]} for category in value]


def read_classes(folder: Path) -> Categories:
    """The classes of a training's folder; nothing where it has none."""
    try:
        document = json.loads((folder / CLASSES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return as_categories(document.get("categories") if isinstance(document, dict) else None)
