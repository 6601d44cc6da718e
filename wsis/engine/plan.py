"""What to compare, read from YAML."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wsis.errors import ConfigError


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


DETECTOR, OWN = "detector", "own"
"""Where a stage's weights come from."""
RESERVED = (
    DETECTOR,
    "student",
    "semantic",
    "proxy",
    "proxies",
    "quality",
    "pseudo_labels",
    "score_maps",
)
"""Names in a row's folder, or of its steps, that no stage may have."""

_PLACE = re.compile(r"\{([\w-]+(?:\.\w+)?)\}")
_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "custom": (
        lambda value: isinstance(value, list) and all(_is_texts(v) and len(v) == 3 for v in value),
        "a list of [name, JSON file, image folder]",
    ),
    "images": (lambda value: type(value) is int and value >= 0, "a number from 0"),
    "labels": (_is_texts, "a list of names"),
    "opts": (_is_texts, "a list of texts, numbers in quotes"),
    "prepare": (_is_texts, "a list of texts, numbers in quotes"),
    "processes": (lambda value: type(value) is int and value >= 1, "a number from 1"),
    "seeds": (lambda value: type(value) is int and value >= 1, "a number from 1"),
    "segmentor": (lambda value: isinstance(value, str | dict), "a config, or its keys"),
    "show": (
        lambda value: isinstance(value, list) and all(_is_texts(v) and v for v in value),
        "a list of commands, each a list of texts",
    ),
    "student": (lambda value: isinstance(value, str | dict), "a config, or its keys"),
    "stages": (lambda value: isinstance(value, dict) and bool(value), "names and configs"),
    "teachers": (lambda value: isinstance(value, dict), "names and configs"),
    "weights": (lambda value: value in ("", DETECTOR, OWN), "one of detector, own"),
}
"""What the value of a key must be; all others are texts."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a training or a generation is called with.

    Its ``opts`` may name what stands before it: ``{dataset}``, ``{json}`` and ``{images}`` of the training data without
    masks, ``{detector.weights}``, of every earlier stage of the row ``{NAME.weights}``, ``{NAME.labels}`` (the
    folder of its label folders) and ``{NAME.score_maps}`` (the folder of its folders of score maps), and of every
    earlier row with the same images, under the name of its folder, ``{ROW.proxy}``, its proxy-mask file, and
    ``{ROW.student}``, the weights of its student.

    Args:
        config: relative to the checkout.
        opts: ``KEY VALUE`` pairs.
    """

    config: str
    opts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StagePlan(TrainingPlan):
    """A training on the training boxes, a generation, or both in turn.

    Args:
        weights: "" = it is not trained, and has the weights that its config or its opts name, if any; "detector" =
            those of the box detector; "own" = it is trained first.
        processes: that generate.
    """

    weights: str = ""
    processes: int = 1


@dataclass(frozen=True)
class TeacherPlan(StagePlan):
    """One row of a comparison: a single stage, whose keys then stand here, or several in turn, of which the last one
    makes what the row is about; or a student alone, which learns from the boxes.

    Args:
        images: masks are made for so many of the training images, and its student is compared with one on true masks
            of the same; 0 = all that the plan uses.
        labels: names of those of its labels that a semantic student learns from; none = the row has no such student.
        seeds: its mask student is trained with so many, the config's and those after it, and so is the student on
            true masks that it is compared with.
        segmentor: that student, where it is not the plan's.
        stages: name to stage, or to its config's path alone.
        student: the row's, where it is not the plan's.
    """

    config: str = ""
    images: int = 0
    labels: list[str] = field(default_factory=list)
    seeds: int = 1
    segmentor: TrainingPlan | None = None
    student: TrainingPlan | None = None
    stages: dict[str, StagePlan] = field(default_factory=dict)

    @property
    def in_turn(self) -> dict[str, StagePlan]:
        """Its stages by name; a single one is called teacher."""
        return self.stages or ({"teacher": self} if self.config else {})


@dataclass(frozen=True)
class Plan:
    """What to compare. Configs and commands are relative to the checkout, or to what is shipped in place of one.

    Args:
        title: of the table.
        train_boxes, train_masks: the training data without and with masks, same ids; the masks only
            score the proxies and train the upper bound.
        teachers: name of the row to the teacher, or to its config's path alone.
        val: the data that students are judged on; "" = there are none, and masks alone are judged.
        detector: config of the box detector that every student starts from.
        student: the student, or its config's path alone.
        prepare: a command that makes the data, run by the same Python; may be empty.
        show: more such commands, run in turn before the trainings and beside PREPARE, so they do not need what that
            makes; the last word of the last one is a picture, which is named at the end.
        custom: ``DATASETS.CUSTOM`` for data that has no builtin name; relative to the present folder.
        opts: ``KEY VALUE`` pairs for the trainings of detector and students; a teacher has its own.
        images: teachers and students see the first so many training images only; 0 = all.
        segmentor: the semantic student, or its config's path alone. It learns from the labels of each row that names
            some, and from the true ones for the upper bound.
    """

    title: str
    train_boxes: str
    train_masks: str
    teachers: dict[str, TeacherPlan]
    val: str = ""
    detector: str = ""
    student: TrainingPlan | None = None
    prepare: list[str] = field(default_factory=list)
    show: list[list[str]] = field(default_factory=list)
    custom: list[list[str]] = field(default_factory=list)
    opts: list[str] = field(default_factory=list)
    images: int = 0
    segmentor: TrainingPlan | None = None


def fill(opts: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """The opts with every ``{name}`` replaced.

    Raises:
        ConfigError: nothing has that name.
    """

    def place(found: re.Match[str]) -> str:
        if found[1] not in places:
            raise ConfigError(
                f"opts: nothing before it is named {found[0]}; known: {', '.join(places)}"
            )
        return places[found[1]]

    return [_PLACE.sub(place, text) for text in opts]


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
    custom = [
        [name, *(os.path.abspath(os.path.expanduser(place)) for place in places)]
        for name, *places in plan.custom
    ]
    plan = _students(f"{path}: ", dataclasses.replace(plan, custom=custom))
    if plan.val or plan.student or plan.segmentor:
        for key in ("val", "detector", "student"):
            if not getattr(plan, key):
                raise ConfigError(f"{path}: key '{key}' is missing, which the plan's students need")
    teachers = {}
    for name, entry in plan.teachers.items():
        where = f"{path}: teachers: {name}: "
        teachers[str(name)] = row = _teacher(where, entry)
        if row.labels and not plan.segmentor:
            raise ConfigError(
                f"{where}key 'labels': the plan has no segmentor that learns from them"
            )
        if not plan.val and (row.student or not row.in_turn):
            raise ConfigError(f"{where}key 'student': the plan has no 'val' to judge it on")
        if not plan.detector and any(s.weights == DETECTOR for s in row.in_turn.values()):
            raise ConfigError(f"{where}key 'weights': the plan has no 'detector'")
    return dataclasses.replace(plan, teachers=teachers)


def _teacher(where: str, entry: Any) -> TeacherPlan:
    row: TeacherPlan = _students(where, _read(where, entry, TeacherPlan))
    if row.segmentor and not row.labels:
        raise ConfigError(f"{where}key 'segmentor': found no 'labels' that it learns from")
    if not row.stages:
        if not row.config and not (
            "student" in entry and set(entry) <= {"student", "images", "seeds"}
        ):
            raise ConfigError(f"{where}key 'config' is missing")
        return row
    alone = sorted({spec.name for spec in dataclasses.fields(StagePlan)} & set(entry))
    if alone:
        raise ConfigError(f"{where}key '{alone[0]}': belongs to one of its stages")
    stages = {}
    for name, stage in row.stages.items():
        if not re.fullmatch(r"\w+", str(name)) or name in RESERVED:
            raise ConfigError(
                f"{where}stages: found the name {name!r}, expected one word other than {', '.join(RESERVED)}"
            )
        stages[str(name)] = _read(f"{where}stages: {name}: ", stage, StagePlan)
    return dataclasses.replace(row, stages=stages)


def _students(where: str, plan: Any) -> Any:
    """A plan or a row with what it says of its students read."""
    given = {key: getattr(plan, key) for key in ("student", "segmentor") if getattr(plan, key)}
    read = {key: _read(f"{where}{key}: ", keys, TrainingPlan) for key, keys in given.items()}
    return dataclasses.replace(plan, **read)


def _read(where: str, document: Any, kind: Any) -> Any:
    if isinstance(document, str) and issubclass(kind, TrainingPlan):
        document = {"config": document}
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
