"""A COCO JSON file, read strictly: either everything in it can be relied upon, or one line says what is wrong."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from wsis.errors import DataError

logger = logging.getLogger(__name__)

Annotation = dict[str, Any]
Image = dict[str, Any]


@dataclass(frozen=True, eq=False)
class CocoSource:
    """A validated COCO JSON file.

    Args:
        json_file: its path (or the dataset's name, if it was registered from Python).
        image_root: folder that the images' ``file_name`` is relative to; "" = names are paths as they stand.
        images, annotations, categories: the file's own lists, unchanged.
        sha256: of the file's bytes, in hex.
        info: the file's ``info``.
        bad_boxes: ids of annotations whose box has no area or lies wholly outside its image.
    """

    json_file: str
    image_root: str
    images: list[Image]
    annotations: list[Annotation]
    categories: list[dict[str, Any]]
    sha256: str
    info: dict[str, Any] = field(default_factory=dict)
    bad_boxes: frozenset[int] = frozenset()

    @cached_property
    def has_masks(self) -> bool:
        """Whether any annotation (crowds aside) carries a ``segmentation``."""
        return any(a.get("segmentation") and not a.get("iscrowd") for a in self.annotations)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in the order of the contiguous index (by ascending category id)."""
        return [c["name"] for c in sorted(self.categories, key=lambda c: c["id"])]

    @cached_property
    def id_to_contiguous(self) -> dict[int, int]:
        """Category id of the file to contiguous index, 0-based."""
        return {c: i for i, c in enumerate(sorted(c["id"] for c in self.categories))}

    @cached_property
    def _by_image(self) -> dict[Any, list[Annotation]]:
        grouped: dict[Any, list[Annotation]] = {image["id"]: [] for image in self.images}
        for annotation in self.annotations:
            grouped[annotation["image_id"]].append(annotation)
        return grouped

    def annotations_of(self, image_id: int | str) -> list[Annotation]:
        """The annotations of one image, in the file's order."""
        return self._by_image[image_id]

    def path_of(self, image: Image) -> str:
        """Where the image lies on disk."""
        return os.path.join(self.image_root, image["file_name"])


def load_source(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str] = "",
    *,
    bad_box: str = "error",
    need_boxes: bool = True,
) -> CocoSource:
    """Reads and checks a COCO JSON file.

    Args:
        json_file: path of the file.
        image_root: folder of the images; "" = the names in the file are paths as they stand.
        bad_box: "error" or "skip", for boxes wholly outside their image or without area.
        need_boxes: every annotation must have a ``bbox``.

    Raises:
        DataError: the first thing that is wrong, with file, key or id, what was found and what was expected.
    """
    path = os.fspath(json_file)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    root = os.fspath(image_root)
    if root and not os.path.isdir(root):
        raise DataError(f"{root}: no such image folder (for {path})")
    return check_document(
        document,
        path,
        root,
        hashlib.sha256(content).hexdigest(),
        bad_box=bad_box,
        need_boxes=need_boxes,
    )


def check_document(
    document: Any,
    name: str,
    image_root: str,
    sha256: str,
    *,
    bad_box: str = "error",
    need_boxes: bool = True,
) -> CocoSource:
    """The checks of :func:`load_source` on a parsed document; ``name`` is what errors call it."""
    if not isinstance(document, dict):
        raise DataError(
            f"{name}: found a {type(document).__name__}, expected an object with images, annotations"
        )
    lists = {}
    for key in ("images", "annotations", "categories"):
        value = document.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise DataError(
                f"{name}: key '{key}': expected a list of objects, found {_show(value)}"
            )
        lists[key] = value
    if not lists["categories"]:
        raise DataError(
            f"{name}: key 'categories': the list is empty, expected at least one category"
        )
    info = document.get("info")
    _check_categories(lists["categories"], name)
    _check_images(lists["images"], name, image_root)
    bad = _check_annotations(
        lists["annotations"], lists["images"], lists["categories"], name, need_boxes
    )
    if bad and bad_box == "error":
        raise DataError(
            next(iter(bad.values())) + "; set DATASETS.BAD_BOX skip to leave such boxes out"
        )
    if bad:
        logger.warning(
            "%s: %d boxes without area or wholly outside their image will not be used",
            name,
            len(bad),
        )
    return CocoSource(
        name,
        image_root,
        **lists,
        sha256=sha256,
        info=info if isinstance(info, dict) else {},
        bad_boxes=frozenset(bad),
    )


def _show(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_unique(
    items: Iterable[dict[str, Any]], kind: str, name: str, valid: Callable[[Any], bool], what: str
) -> None:
    seen = set()
    for position, item in enumerate(items):
        value = item.get("id")
        if not valid(value):
            raise DataError(
                f"{name}: {kind} number {position}: key 'id': found {_show(value)}, expected {what}"
            )
        if value in seen:
            raise DataError(f"{name}: {kind} id {value!r} occurs twice")
        seen.add(value)


def _check_categories(categories: list[dict[str, Any]], name: str) -> None:
    _check_unique(categories, "category", name, _is_int, "an integer")
    for category in categories:
        if not isinstance(category.get("name"), str) or not category["name"]:
            raise DataError(
                f"{name}: category {category['id']}: key 'name': found {_show(category.get('name'))}, expected text"
            )


def _leaves_root(file_name: str) -> bool:
    """Whether a relative name is absolute or climbs out of its root, on any system's spelling."""
    for flavour in (PurePosixPath, PureWindowsPath):
        path = flavour(file_name)
        if path.is_absolute() or path.drive or ".." in path.parts:
            return True
    return False


def _check_images(images: list[Image], name: str, image_root: str) -> None:
    _check_unique(
        images, "image", name, lambda v: _is_int(v) or isinstance(v, str), "an integer or text"
    )
    for image in images:
        label = f"{name}: image {image['id']!r}"
        file_name = image.get("file_name")
        if not isinstance(file_name, str) or not file_name or "\0" in file_name:
            raise DataError(f"{label}: key 'file_name': found {_show(file_name)}, expected a path")
        if image_root and _leaves_root(file_name):
            raise DataError(
                f"{label}: key 'file_name': {_show(file_name)} leaves the image folder {image_root}"
            )
        for key in ("height", "width"):
            if not _is_int(image.get(key)) or image[key] < 1:
                raise DataError(
                    f"{label}: key '{key}': found {_show(image.get(key))}, expected a positive integer"
                )


def _check_annotations(
    annotations: list[Annotation],
    images: list[Image],
    categories: list[dict[str, Any]],
    name: str,
    need_boxes: bool,
) -> dict[int, str]:
    """Raises for what no setting admits; returns the bad boxes: annotation id to what is wrong with it."""
    _check_unique(annotations, "annotation", name, _is_int, "an integer")
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    category_ids = {category["id"] for category in categories}
    bad: dict[int, str] = {}
    for annotation in annotations:
        label = f"{name}: annotation {annotation['id']}"
        image_id = annotation.get("image_id")
        if not isinstance(image_id, int | str) or image_id not in sizes:
            raise DataError(f"{label}: key 'image_id': {_show(image_id)} is not among the images")
        category_id = annotation.get("category_id")
        if not _is_int(category_id) or category_id not in category_ids:
            raise DataError(
                f"{label}: key 'category_id': {_show(category_id)} is not among the categories"
            )
        crowd = annotation.get("iscrowd", 0)
        if not isinstance(crowd, int) or crowd not in (0, 1):
            raise DataError(f"{label}: key 'iscrowd': found {_show(crowd)}, expected 0 or 1")
        score = annotation.get("score", 1.0)
        if not _is_number(score) or not 0 <= score <= 1:
            raise DataError(
                f"{label}: key 'score': found {_show(score)}, expected a number from 0 to 1"
            )
        if "bbox" not in annotation and not need_boxes:
            continue
        problem = _box_problem(annotation.get("bbox"), *sizes[image_id], label)
        if problem:
            bad[annotation["id"]] = problem
    return bad


def _box_problem(box: Any, height: int, width: int, label: str) -> str | None:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise DataError(
            f"{label}: key 'bbox': found {_show(box)}, expected four finite numbers x, y, width, height"
        )
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return f"{label}: key 'bbox': {_show(box)} has no area, expected width and height above 0"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return f"{label}: key 'bbox': {_show(box)} lies wholly outside its {width}x{height} image"
    return None
