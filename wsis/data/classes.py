"""Classes by name: the same ones may have other ids in another export, and weights remember theirs."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsis.data.source import CocoSource
from wsis.data.values import is_integer

Categories = list[dict[str, Any]]
"""``id`` and ``name`` of classes, in the order of the contiguous index."""

CLASSES_FILE = "classes.json"
"""Beside ``config.yaml`` and the checkpoints of a training: its classes."""


def categories_of(source: CocoSource, class_agnostic: bool = False) -> Categories:
    """The classes that a model learns from a source."""
    return [{"id": 1, "name": "object"}] if class_agnostic else source.run_categories


def names_of(categories: Categories) -> list[str]:
    """Their names, in order."""
    return [category["name"] for category in categories]


def same_names(found: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Which of some known names each name means: the same one; else, of the others, the only one that differs no more
    than in case, spaces, ``_`` and ``-``. Names that mean none, or none alone, are left out.
    """
    pairs = {name: name for name in found if name in known}
    theirs, ours = (
        Counter(plain_name(n) for n in {*names} if n not in pairs) for names in (found, known)
    )
    alone = {plain_name(n): n for n in known if n not in pairs and ours[plain_name(n)] == 1}
    others = (n for n in found if n not in pairs and theirs[plain_name(n)] == 1)
    return pairs | {name: alone[plain_name(name)] for name in others if plain_name(name) in alone}


def plain_name(name: str) -> str:
    """A name without what spellings differ in: case, spaces, ``_`` and ``-``, the form of letters."""
    words = unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ")
    return " ".join(words.split())


def matched(source: CocoSource, categories: Categories) -> CocoSource | None:
    """A source in which these classes count in this order, each found by its name; its own ids and names stay.

    Args:
        source: the data.
        categories: of another source or of weights; may be more than the source has.

    Returns:
        The source itself where the order of its classes is the same; None where a class that it uses is not among the
        categories, or a name is there twice.
    """
    own, wanted = [category["name"] for category in source.categories], names_of(categories)
    if source.class_names == wanted:
        return source
    meant = same_names(own, wanted)
    if len(set(own)) < len(own) or len(set(wanted)) < len(wanted) or not meant:
        return None
    if any(c["name"] not in meant for c in source.categories if c["id"] in source.used_ids):
        return None
    named = {theirs: name for name, theirs in meant.items()}
    return replace(source, classes=tuple(named.get(name, name) for name in wanted))


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
