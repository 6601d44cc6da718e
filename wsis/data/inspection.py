"""Everything that can be said about a dataset before it is used: what it has, and all that is wrong with it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wsis.data.classes import plain_name
from wsis.data.dicts import mask_errors, one_line
from wsis.data.image_checks import more_images, none_readable
from wsis.data.image_names import FolderIndex
from wsis.data.images import UnreadableImageError, check_pixels
from wsis.data.plausible import doubts, no_object
from wsis.data.source import Annotation, CocoSource, Image, read_document
from wsis.data.source_checks import BAD_BOX_CURE, LISTS, Problem, document_problems, told
from wsis.data.tidy import tidy
from wsis.errors import DataError, counted
from wsis.structures.boxes import clip_boxes, xywh_to_xyxy
from wsis.structures.rle import rle_area, segmentation_to_rle

QUANTILES = {"smallest": 0.0, "10%": 0.1, "median": 0.5, "90%": 0.9, "largest": 1.0}
BOX_TOLERANCE = 1.0
"""Pixels by which a box may stick out of its image unremarked: rounding does that."""


@dataclass
class DatasetReport:
    """What is known about one dataset.

    Args:
        json_file: the file.
        image_root: folder of its images.
        problems: what makes it unusable, one line for each kind.
        every_problem: the same, one line for each item.
        unreadable: images that are missing or cannot be decoded, one line each.
        notes: what may be meant so and may be not, one line each.
        facts: what it has; plain numbers and names, of the items that have no problem.
        images: those whose entries have no problem.
    """

    json_file: str
    image_root: str
    problems: list[str] = field(default_factory=list)
    every_problem: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    images: list[Image] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """2 with a problem, else 3 with an unreadable image, else 0."""
        return 2 if self.problems else 3 if self.unreadable else 0


def inspect_file(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str] = "",
    *,
    bad_box: str = "error",
    need_boxes: bool = True,
) -> DatasetReport:
    """Checks a COCO JSON file as :func:`wsis.data.source.load_source` does, its masks too, and counts what it has. The
    image files are left to :func:`inspect_images`.

    Args:
        json_file, image_root, bad_box, need_boxes: as for :func:`wsis.data.source.load_source`.
    """
    report = DatasetReport(os.fspath(json_file), os.fspath(image_root))
    try:
        document, sha256 = read_document(report.json_file, report.image_root)
    except DataError as error:
        report.problems.append(str(error))
        return report
    document, remarks = tidy(document, report.image_root)
    report.notes += [f"{report.json_file}: {remark}" for remark in remarks]
    problems = [
        problem
        for problem in document_problems(document, report.json_file, report.image_root)
        if need_boxes or not problem.no_box
    ]
    bad = [problem for problem in problems if problem.bad_box is not None]
    wrong = [p for p in problems if bad_box == "error" or p.bad_box is None]
    report.problems += told(wrong)
    report.every_problem += [problem.text for problem in wrong]
    if bad_box != "error":
        report.notes += [
            f"{line.removesuffix(f'; {BAD_BOX_CURE}')}: will not be used" for line in told(bad)
        ]
    faulty = {problem.where for problem in problems if problem.bad_box is None}
    if None in faulty:  # the file as a whole, so that nothing in it can be counted
        return report
    _count(report, document, sha256, faulty, bad)
    return report


def _count(
    report: DatasetReport,
    document: Any,
    sha256: str,
    faulty: set[tuple[str, int] | None],
    bad: list[Problem],
) -> None:
    """Fills in what a file has, of its items without problem."""
    images, annotations, categories = (
        [item for i, item in enumerate(document[key]) if (key, i) not in faulty] for key in LISTS
    )
    report.images = images
    by_id = {image["id"]: image for image in images}
    names = {category["id"]: category["name"] for category in categories}
    annotations = [a for a in annotations if a["image_id"] in by_id and a["category_id"] in names]
    info = document.get("info")
    is_proxy = isinstance(info, dict) and isinstance(info.get("wsis"), dict)
    bad_boxes = frozenset(problem.bad_box for problem in bad if problem.bad_box is not None)
    report.facts = {
        "sha256": sha256,
        "proxy_of": info["wsis"].get("method") if is_proxy else None,
        "images": _image_facts(images, annotations),
        "annotations": len(annotations),
        "crowds": sum(bool(a.get("iscrowd")) for a in annotations),
        "classes": _class_facts(names, annotations),
        "boxes": _box_facts([a for a in annotations if a["id"] not in bad_boxes]),
        "masks": _check_masks(annotations, by_id, report),
    }
    used = {str(a.get("category_id")) for a in document["annotations"]}
    unused = [names[c] for c in sorted(names) if str(c) not in used]
    lines = _notes(images, annotations, by_id, names, bad_boxes, unused)
    lines += _unlisted(images, report.image_root)
    lines += doubts(images, annotations, made_by_teacher=is_proxy)
    tagged = any("image_labels" in image for image in images)
    if len(annotations) == len(document["annotations"]) and not tagged:
        source = CocoSource(
            *(report.json_file, report.image_root, images, annotations, categories, sha256),
            bad_boxes=bad_boxes,
        )
        boxes = not annotations or any("bbox" in a for a in annotations)
        lines += [no_object(source)] if boxes else []
    report.notes += [f"{report.json_file}: {line}" for line in lines if line]


def _unlisted(images: list[Image], image_root: str) -> list[str]:
    """A line about images of the folder that no entry names."""
    if not image_root:
        return []
    listed = {os.path.normpath(image["file_name"]) for image in images}
    others = [name for name in FolderIndex(Path(image_root)).names if name not in listed]
    if not others:
        return []
    return [
        f"images in {image_root} that the file does not list: {len(others)}, the first is {others[0]!r}"
    ]


def _image_facts(images: list[Image], annotations: list[Annotation]) -> dict[str, Any]:
    with_object = {a["image_id"] for a in annotations if not a.get("iscrowd")}
    return {
        "count": len(images),
        "without_boxes": sum(image["id"] not in with_object for image in images),
        "height": _quantiles([image["height"] for image in images]),
        "width": _quantiles([image["width"] for image in images]),
    }


def _class_facts(names: dict[int, str], annotations: list[Annotation]) -> list[dict[str, Any]]:
    """By ascending category id, crowds aside."""
    images = defaultdict(set)
    counts: Counter[int] = Counter()
    for annotation in annotations:
        if not annotation.get("iscrowd"):
            counts[annotation["category_id"]] += 1
            images[annotation["category_id"]].add(annotation["image_id"])
    return [
        {"id": c, "name": names[c], "annotations": counts[c], "images": len(images[c])}
        for c in sorted(names)
    ]


def _box_facts(annotations: list[Annotation]) -> dict[str, Any]:
    sides = np.array(
        [a["bbox"][2:] for a in annotations if "bbox" in a and not a.get("iscrowd")], dtype=float
    ).reshape(-1, 2)
    return {
        "count": len(sides),
        "width": _quantiles(sides[:, 0]),
        "height": _quantiles(sides[:, 1]),
        "square_root_of_area": _quantiles(np.sqrt(sides.prod(axis=1))),
    }


def _quantiles(values: Any) -> dict[str, float]:
    if len(values) == 0:
        return {}
    found = np.quantile(np.asarray(values, dtype=np.float64), list(QUANTILES.values()))
    return {name: round(float(v), 2) for name, v in zip(QUANTILES, found, strict=True)}


def _check_masks(
    annotations: list[Annotation], images: dict[Any, Image], report: DatasetReport
) -> dict[str, int]:
    """Checks every mask and counts their kinds, crowds aside."""
    errors = mask_errors(images.values(), annotations, report.json_file)
    if errors:
        report.problems.append(one_line(errors))
        report.every_problem += errors.values()
    kinds: Counter[str] = Counter()
    empty = []
    for annotation in annotations:
        mask, image = annotation.get("segmentation"), images[annotation["image_id"]]
        kind = "polygons" if isinstance(mask, list) else "run-length codes"
        if annotation["id"] in errors:
            kind = "malformed"
        elif mask in (None, []):
            kind = "none"
        elif kind != "polygons":
            code = segmentation_to_rle(mask, image["height"], image["width"])
            empty += [] if rle_area(code) else [annotation["id"]]
        if not annotation.get("iscrowd"):
            kinds[kind] += 1
            kinds["ignored regions"] += bool(annotation.get("ignore_segmentation"))
    if empty:
        report.notes.append(
            f"{report.json_file}: {counted(len(empty), 'mask')} without a pixel, the first is annotation {empty[0]}"
        )
    return dict(+kinds)


def _notes(
    images: list[Image],
    annotations: list[Annotation],
    by_id: dict[Any, Image],
    names: dict[int, str],
    bad_boxes: frozenset[int],
    unused: list[str],
) -> list[str]:
    """What is allowed, and yet seldom meant."""
    outside, seen, twice = [], set(), []
    for a in annotations:
        if "bbox" not in a or a["id"] in bad_boxes or a.get("iscrowd"):
            continue
        box = xywh_to_xyxy(a["bbox"])
        image = by_id[a["image_id"]]
        if np.abs(clip_boxes(box, image["height"], image["width"]) - box).max() > BOX_TOLERANCE:
            outside.append(a["id"])
        key = a["image_id"], a["category_id"], *a["bbox"]
        twice += [a["id"]] if key in seen else []
        seen.add(key)
    files = Counter(image["file_name"] for image in images)
    same_file = [file_name for file_name, number in files.items() if number > 1]
    alike = Counter(map(plain_name, names.values()))
    same_name = list(dict.fromkeys(n for n in names.values() if alike[plain_name(n)] > 1))
    notes = []
    for found, text in (
        (
            outside,
            "boxes that reach out of their image and are cut to it: {}, the first is annotation {}",
        ),
        (twice, "boxes that are there twice with one class: {}, the first is annotation {}"),
        (unused, "classes without an annotation: {}, the first is {!r}"),
        (same_name, "names of several categories, case and spaces aside: {}, the first is {!r}"),
        (same_file, "files that are the image of several entries: {}, the first is {!r}"),
    ):
        if found:
            notes.append(text.format(len(found), found[0]))
    return notes


def inspect_images(report: DatasetReport, threads: int = 8) -> Iterator[None]:
    """Reads every image file of a report and adds what it finds to the report.

    Args:
        report: from :func:`inspect_file`; its ``facts`` get ``files``, complete with the last image.
        threads: that decode side by side.

    Yields:
        Once per image.
    """
    if not report.facts:  # the file could not be counted
        return
    files = report.facts["files"] = {"read": 0, "modes": {}, "more_than_8_bits": 0, "rotated": 0}

    def check(image: Image) -> tuple[DataError | None, Any]:
        path = os.path.join(report.image_root, image["file_name"])
        size = image["height"], image["width"]
        try:
            header = check_pixels(path, *size)
        except DataError as error:
            text = f"{report.json_file}: image {image['id']!r}: {error}"
            return type(error)(text), None
        return None, header

    wrong: list[str] = []
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for error, header in pool.map(check, report.images):
            if isinstance(error, UnreadableImageError):
                report.unreadable.append(str(error))
            elif error is not None:
                wrong.append(str(error))
            else:
                files["read"] += 1
                files["modes"][header.mode] = files["modes"].get(header.mode, 0) + 1
                files["more_than_8_bits"] += header.deep
                files["rotated"] += header.rotated
            yield
    if wrong:
        report.problems.append(wrong[0] + more_images(len(wrong)))
        report.every_problem += wrong
    if report.unreadable and len(report.unreadable) == len(report.images):
        report.problems.append(
            none_readable(report.json_file, report.image_root, report.unreadable)
        )
