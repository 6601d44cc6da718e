"""Masks that another tool wrote, read in terms of a dataset: its images, its classes, its form of codes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from wsis.data.classes import same_names
from wsis.data.image_names import unique_names
from wsis.data.source import CocoSource, check_document, read_document
from wsis.data.values import is_image_id, is_integer, is_number, show, usable_mask, whole
from wsis.errors import DataError, counted
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.rle import RLE, read_mask, rle_area

logger = logging.getLogger(__name__)

ANY_CLASS_HINT = "set MODEL.EXTERNAL.MATCH_CLASS False (--any-class) to join whatever the class"
_NO_MASK = ("empty", "failed", "crowd")


@dataclass(frozen=True)
class ExternalMask:
    """One mask of the file.

    Args:
        label: file and entry, for messages.
        image_id: the source's id of its image.
        category_id: the source's id of its class; None = unknown, fits any.
        box: (4,) float64 XYXY in pixels: the file's, else the mask's tight box.
        mask: code of the full image, with at least one pixel.
        score: confidence in [0, 1]; 1 where the file has none.
        annotation_id: what the file says under ``annotation_id``.
        own_id: what the file says under ``id``.
        by_name: the file says the name of the image, too.
    """

    label: str
    image_id: int | str
    category_id: int | None
    box: np.ndarray
    mask: RLE
    score: float
    annotation_id: Any = None
    own_id: Any = None
    by_name: bool = False


def read_masks(
    path: str, source: CocoSource, match_class: bool = True
) -> tuple[list[ExternalMask], str]:
    """The masks of a file in terms of a source, and the file's SHA-256; see :func:`join_masks`.

    Raises:
        DataError: see :func:`join_masks`.
    """
    document, sha256 = read_document(path, "")
    sizes = {image["id"]: (image["height"], image["width"]) for image in source.images}
    finder = ImageFinder(source)
    if isinstance(document, list):
        entries = [(f"{path}: entry {i}", entry) for i, entry in enumerate(document)]
        image_ids: dict[Any, Any] | None = None
        classes = {c["id"]: c["id"] for c in source.categories}
        classes |= {c["name"]: c["id"] for c in source.categories}
    else:
        other = check_document(document, path, "", sha256, bad_box="skip", need_boxes=False)
        entries = [
            (f"{path}: annotation {a['id']}", a)
            for a in other.annotations
            if not a.get("iscrowd") and a.get("status") not in _NO_MASK
        ]
        image_ids = _images_by_name(other, source)
        classes = _classes_by_name(other, source) if match_class else {}
    masks = []
    specks = 0
    for label, entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f"{label}: found {show(entry)}, expected an object; write one per mask")
        image_id: Any = entry.get("image_id")
        if image_ids is not None:
            if image_id not in image_ids:
                continue
            image_id = image_ids[image_id]
        else:
            image_id = finder.find(entry, label)
        category_id = whole(entry.get("category_id")) if match_class else None
        if category_id is not None:
            if isinstance(document, dict) and category_id not in classes:
                continue  # a class that the source does not have
            category_id = _known_class(category_id, classes, label, source)
        usable, lost = usable_mask(entry.get("segmentation"))
        specks += lost
        mask = _code({**entry, "segmentation": usable}, sizes[image_id], label)
        if mask is not None:
            box, score = _box(entry, mask, label), _score(entry, label)
            ids = whole(entry.get("annotation_id")), whole(entry.get("id"))
            by_name = image_ids is not None or isinstance(entry.get("file_name"), str)
            by_name = by_name or image_id != whole(entry["image_id"])
            masks.append(
                ExternalMask(label, image_id, category_id, box, mask, score, *ids, by_name)
            )
    if specks:
        number = counted(specks, "polygon", "polygons")
        logger.warning("%s: %s of less than three points left out of the masks", path, number)
    finder.tell(path)
    if not masks:
        raise DataError(
            f"{path}: found no mask of an image of {source.json_file}, expected a list of results or a COCO object; is "
            "it of another dataset?"
        )
    return masks, sha256


class ImageFinder:
    """Images that results name by an id of their own: a ``file_name`` decides, then the dataset's id, then a name or
    number that only one image has.

    Args:
        source: the dataset.
    """

    def __init__(self, source: CocoSource) -> None:
        self.source = source
        self._names = unique_names(source.images)
        self._ids = {image["id"] for image in source.images}
        self._contradicted: list[str] = []

    def find(self, entry: dict[str, Any], label: str) -> Any:
        """The source's id of the image of an entry.

        Raises:
            DataError: no image is meant, or no single one.
        """
        given, name = entry.get("image_id"), entry.get("file_name")
        number = whole(given)
        known = next((v for v in (given, number, str(given)) if self._is_known(v)), None)
        named = self._by_name(name) if isinstance(name, str) else None
        if named is not None:
            if known is not None and known != named:
                self._contradicted.append(label)
            return named
        if known is not None:
            return known
        if isinstance(given, str):
            named = self._by_name(given)
        elif is_integer(given):
            named = self.by_number.get(whole(given))
        if named is None:
            raise DataError(
                f"{label}: key 'image_id': {show(given)} is not among the images of {self.source.json_file}; write "
                "the id that it has there, or its 'file_name'"
            )
        return named

    @cached_property
    def by_number(self) -> dict[Any, Any]:
        """Image id by the number that its file name is, where it is one and only one image's."""
        stems = [(whole(PurePosixPath(i["file_name"]).stem), i["id"]) for i in self.source.images]
        seen = Counter(stem for stem, _ in stems)
        return {stem: key for stem, key in stems if is_integer(stem) and seen[stem] == 1}

    def tell(self, path: str) -> None:
        """One line about entries whose number and name mean two images."""
        if self._contradicted:
            entries = counted(len(self._contradicted), "entry has", "entries have")
            text = "%s: %s a file_name of another image than image_id, the first is %s: the name counts"
            logger.warning(text, path, entries, self._contradicted[0].removeprefix(f"{path}: "))

    def _is_known(self, image_id: Any) -> bool:
        return is_image_id(image_id) and image_id in self._ids

    def _by_name(self, name: str) -> Any:
        path = PurePosixPath(name.replace("\\", "/"))
        forms = (str(path), path.name, path.stem)
        return next((self._names[form] for form in forms if form in self._names), None)


def _known_class(category_id: Any, classes: dict[Any, int], label: str, source: CocoSource) -> int:
    if not is_image_id(category_id) or category_id not in classes:
        raise DataError(
            f"{label}: key 'category_id': {show(category_id)} is not among the categories of {source.json_file}; "
            f"{ANY_CLASS_HINT}"
        )
    return classes[category_id]


def _images_by_name(other: CocoSource, source: CocoSource) -> dict[Any, Any]:
    """Image id of the file to that of the source: of the same name, else of the same last part of the name, where that
    is no other image's in either file.
    """

    def unique_last(images: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any] | None]:
        last: dict[str, dict[str, Any] | None] = {}
        for image in images:
            name = PurePosixPath(image["file_name"]).name
            last[name] = None if name in last else image
        return last

    full = {image["file_name"]: image for image in source.images}
    theirs, ours = unique_last(other.images), unique_last(source.images)
    ids = {}
    for image in other.images:
        last = PurePosixPath(image["file_name"]).name
        twin = full.get(image["file_name"]) or (ours.get(last) if theirs[last] else None)
        if twin is None:
            continue
        for side in ("height", "width"):
            if image[side] != twin[side]:
                raise DataError(
                    f"{other.json_file}: image {image['id']!r}: key '{side}': found {image[side]}, expected "
                    f"{twin[side]} as image {twin['id']!r} has in {source.json_file}; "
                    "make the masks on the images themselves"
                )
        ids[image["id"]] = twin["id"]
    return ids


def _classes_by_name(other: CocoSource, source: CocoSource) -> dict[Any, int]:
    """Category id of the file to that of the source."""
    ours = {category["name"]: category["id"] for category in source.categories}
    meant = same_names([c["name"] for c in other.categories], list(ours))
    classes = {c["id"]: ours[meant[c["name"]]] for c in other.categories if c["name"] in meant}
    if not classes:
        raise DataError(
            f"{other.json_file}: none of its classes ({', '.join(other.class_names[:5])}) is a class of "
            f"{source.json_file} ({', '.join(source.class_names[:5])}); {ANY_CLASS_HINT}"
        )
    return classes


def _code(entry: dict[str, Any], size: tuple[int, int], label: str) -> RLE | None:
    """The mask, None where there is none or it has no pixel."""
    if entry.get("segmentation") in (None, []):
        return None
    code = read_mask(entry, "segmentation", size, label)
    return code if rle_area(code) else None


def _box(entry: dict[str, Any], mask: RLE, label: str) -> np.ndarray:
    box = entry.get("bbox")
    if box is None:
        box = coco_mask.toBbox(mask).tolist()
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(v) for v in box):
        raise DataError(
            f"{label}: key 'bbox': found {show(box)}, expected four finite numbers x, y, width, height; or "
            "leave the key out"
        )
    return xywh_to_xyxy(box)


def _score(entry: dict[str, Any], label: str) -> float:
    score = entry.get("score", 1.0)
    score = 1.0 if score is None else score
    if not is_number(score) or not 0 <= score <= 1:
        raise DataError(
            f"{label}: key 'score': found {show(score)}, expected a number from 0 to 1; divide percents by 100"
        )
    return float(score)
