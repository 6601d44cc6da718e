"""What to compare, read from YAML."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wsis.errors import ConfigError


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "custom": (
        lambda value: isinstance(value, list) and all(_is_texts(v) and len(v) == 3 for v in value),
        "a list of [name, JSON file, image folder]",
    ),
    "images": (lambda value: type(value) is int and value >= 0, "a number from 0"),
    "opts": (_is_texts, "a list of texts, numbers in quotes"),
    "prepare": (_is_texts, "a list of texts, numbers in quotes"),
    "processes": (lambda value: type(value) is int and value >= 1, "a number from 1"),
    "teachers": (lambda value: isinstance(value, dict), "names and configs"),
    "weights": (lambda value: value in ("", "detector", "own"), "one of detector, own"),
}
"""What the value of a key must be; all others are texts."""


@dataclass(frozen=True)
class TeacherPlan:
    """One row of a comparison.

    Args:
        config: of the teacher, relative to the checkout.
        weights: "" = it has none; "detector" = those of the box detector; "own" = trained by its config on the
            training boxes first.
        images: masks are made for so many of the training images, and its student is compared with one on true masks
            of the same; 0 = all that the plan uses.
        opts: ``KEY VALUE`` pairs for its training and generation.
        processes: that generate its masks.
    """

    config: str
    weights: str = ""
    images: int = 0
    opts: list[str] = field(default_factory=list)
    processes: int = 1


@dataclass(frozen=True)
class Plan:
    """What to compare. Paths are relative to the checkout.

    Args:
        title: of the table.
        train_boxes, train_masks: the training data without and with masks, same ids; the masks only
            score the proxies and train the upper bound.
        val: the data that students are judged on.
        detector: config of the box detector that every student starts from.
        student: config of the student.
        teachers: name of the row to the teacher, or to its config's path alone.
        prepare: a command that makes the data, run by the same Python; may be empty.
        custom: ``DATASETS.CUSTOM`` for data that has no builtin name.
        opts: ``KEY VALUE`` pairs for the trainings of detector and students; a teacher has its own.
        images: teachers and students see the first so many training images only; 0 = all.
    """

    title: str
    train_boxes: str
    train_masks: str
    val: str
    detector: str
    student: str
    teachers: dict[str, TeacherPlan]
    prepare: list[str] = field(default_factory=list)
    custom: list[list[str]] = field(default_factory=list)
    opts: list[str] = field(default_factory=list)
    images: int = 0


def load_plan(path: str | os.PathLike[str], replace: dict[str, str] | None = None) -> Plan:
    """Reads a plan from YAML.

    Args:
        path: the file.
        replace: ``{name}`` in its texts to what takes its place.

    Raises:
        ConfigError: missing, not YAML, or a key is missing, unknown or of another form.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        for name, value in (replace or {}).items():
            text = text.replace("{" + name + "}", value)
        document = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # not UTF-8; no such date
        raise ConfigError(f"{path}: not plain YAML ({' '.join(str(error).split())})") from error
    plan = _read(f"{path}: ", document, Plan)
    teachers = {
        str(name): TeacherPlan(entry)
        if isinstance(entry, str)
        else _read(f"{path}: teachers: {name}: ", entry, TeacherPlan)
        for name, entry in plan.teachers.items()
    }
    return dataclasses.replace(plan, teachers=teachers)


def _read(where: str, document: Any, kind: Any) -> Any:
    if not isinstance(document, dict):
        raise ConfigError(f"{where}found {type(document).__name__}, expected keys and values")
    known = {spec.name: spec for spec in dataclasses.fields(kind)}
    for key, value in document.items():
        if key not in known:
            raise ConfigError(f"{where}no such key {key}; known: {', '.join(sorted(known))}")
        right, expected = _FORMS.get(key, (lambda value: isinstance(value, str), "text"))
        if not right(value):
            raise ConfigError(f"{where}key '{key}': found {value!r}, expected {expected}")
    for key, spec in known.items():
        needed = spec.default is spec.default_factory is dataclasses.MISSING
        if needed and not document.get(key):
            raise ConfigError(f"{where}key '{key}' is missing")
    return kind(**document)
