"""What to compare, read from YAML."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from wsis.errors import ConfigError

WEIGHTS = ("", "detector", "own")


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
    _check_keys(path, "", document, Plan)
    for key in ("title", "train_boxes", "train_masks", "val", "detector", "student", "teachers"):
        if not document.get(key):
            raise ConfigError(f"{path}: key '{key}' is missing")
    teachers = {
        str(name): _teacher(path, str(name), entry) for name, entry in document["teachers"].items()
    }
    return Plan(**{**document, "teachers": teachers})


def _teacher(path: str | os.PathLike[str], name: str, entry: Any) -> TeacherPlan:
    if isinstance(entry, str):
        return TeacherPlan(entry)
    where = f"teachers: {name}: "
    _check_keys(path, where, entry, TeacherPlan)
    if not entry.get("config"):
        raise ConfigError(f"{path}: {where}key 'config' is missing")
    teacher = TeacherPlan(**entry)
    if teacher.weights not in WEIGHTS:
        raise ConfigError(
            f"{path}: {where}key 'weights': found {teacher.weights!r}, expected one of {', '.join(WEIGHTS[1:])}"
        )
    return teacher


def _check_keys(path: str | os.PathLike[str], where: str, document: Any, kind: type) -> None:
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path}: {where}found {type(document).__name__}, expected keys and values"
        )
    known = {f.name for f in fields(kind)}
    for key in document:
        if key not in known:
            raise ConfigError(
                f"{path}: {where}no such key {key}; known: {', '.join(sorted(known))}"
            )
        right, expected = _FORMS.get(key, (lambda value: isinstance(value, str), "text"))
        if not right(document[key]):
            raise ConfigError(
                f"{path}: {where}key '{key}': found {document[key]!r}, expected {expected}"
            )
