"""Masks that another tool made, joined to the annotations of a dataset: by id where the file has it, else by box."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from wsis.config.params import check, key
from wsis.config.rules import Rule
from wsis.data.source import Annotation, CocoSource, check_document, read_document
from wsis.data.source_checks import is_image_id, is_integer, is_number, show
from wsis.errors import DataError, counted
from wsis.layers.iou import box_iou
from wsis.structures.boxes import clip_boxes, xywh_to_xyxy
from wsis.structures.rle import RLE, read_mask, rle_area

logger = logging.getLogger(__name__)

JOINS = ("auto", "id", "box")
ANY_CLASS_HINT = "set MODEL.EXTERNAL.MATCH_CLASS False (--any-class) to join whatever the class"
_NO_MASK = ("empty", "failed", "crowd")
_OF_MASKS = ("segmentation", "ignore_segmentation", "area", "score", "status")


@dataclass(frozen=True)
class JoinParams:
    """How masks find their boxes.

    Attributes:
        join: How masks find their boxes. "id": by annotation_id, else id; "box": by IoU of the boxes, one to one, the
            largest first; "auto": by annotation_id where it is given, by id if all of them agree with the dataset, else
            by box.
        min_iou: Smallest IoU of the given box, or of the mask's tight box, with the dataset's box, for a mask that is
            joined by box.
        match_class: A mask whose class the file says goes to boxes of that class only.
    """

    join: str = key("auto", Rule(", ".join(JOINS), lambda value: value in JOINS))
    min_iou: float = key(0.5, Rule("above 0 up to 1", lambda value: 0 < value <= 1))
    match_class: bool = key(True)


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
    """

    label: str
    image_id: int | str
    category_id: int | None
    box: np.ndarray
    mask: RLE
    score: float
    annotation_id: Any = None
    own_id: Any = None


@dataclass(frozen=True)
class JoinedMasks:
    """The masks of a dataset's annotations.

    Args:
        masks: annotation id to its mask; annotations that no mask fits are not there.
        sha256: of the file, in hex.
        summary: what was joined how, in one line.
    """

    masks: dict[int, ExternalMask]
    sha256: str
    summary: str

    def as_source(self, source: CocoSource) -> CocoSource:
        """The source with these masks in place of its own, each with score and status as in a proxy-mask file."""

        def annotate(annotation: Annotation) -> Annotation:
            bare = {k: v for k, v in annotation.items() if k not in _OF_MASKS}
            found = self.masks.get(annotation["id"])
            if found is None:
                return {**bare, "status": "crowd" if annotation.get("iscrowd") else "empty"}
            area = rle_area(found.mask)
            own = {"segmentation": found.mask, "area": area, "score": found.score, "status": "ok"}
            return {**bare, **own}

        return replace(source, annotations=[annotate(a) for a in source.annotations])


def join_masks(
    path: str,
    source: CocoSource,
    *,
    join: str = JoinParams.join,
    min_iou: float = JoinParams.min_iou,
    match_class: bool = JoinParams.match_class,
) -> JoinedMasks:
    """Reads a file of masks and joins them to the annotations of a source, one to one.

    A list is COCO's format of results: ``image_id`` (the source's), ``segmentation`` and, where the tool knows them,
    ``category_id`` (the source's), ``score``, ``bbox`` and ``annotation_id``. A COCO JSON has images and categories
    of its own, which are found in the source by name.

    Args:
        path: the file.
        source: whose boxes want masks; crowds and bad boxes take no part.
        join, min_iou, match_class: see :class:`JoinParams`. With "auto" ids are trusted if every entry without an
            ``annotation_id`` names an annotation of its image and class that it touches.

    Raises:
        ConfigError: a setting is out of its range.
        DataError: the file is wrong, contradicts the source, or no mask of it fits.
    """
    check(JoinParams(join, min_iou, match_class), "MODEL.EXTERNAL")
    found, sha256 = read_masks(path, source, match_class)
    targets = {
        a["id"]: a
        for a in source.annotations
        if not a.get("iscrowd") and a["id"] not in source.bad_boxes and "bbox" in a
    }
    named = [m for m in found if m.annotation_id is not None and join != "box"]
    rest = [m for m in found if m.annotation_id is None or join == "box"]
    masks = _by_id(named, source, targets, lambda mask: mask.annotation_id, "annotation_id")
    if join == "id" or (join == "auto" and rest and _ids_agree(rest, source, targets)):
        masks = _by_id(rest, source, targets, lambda mask: mask.own_id, "id") | masks
        rest = []
    number = len(masks)
    free = [a for a in targets.values() if a["id"] not in masks]
    masks |= _by_box(rest, free, source, min_iou)
    summary = (
        f"{path}: {counted(len(found), 'mask')} for {counted(len(targets), 'box', 'boxes')}; "
        f"joined by id {number}, by box {len(masks) - number}; boxes without a mask {len(targets) - len(masks)}"
    )
    if not masks:
        raise DataError(
            f"{summary}; expected at least one: is it another dataset, or is MODEL.EXTERNAL.MIN_IOU too high? "
            f"Or {ANY_CLASS_HINT}"
        )
    logger.info(summary)
    return JoinedMasks(masks, sha256, summary)


def read_masks(
    path: str, source: CocoSource, match_class: bool = True
) -> tuple[list[ExternalMask], str]:
    """The masks of a file in terms of a source, and the file's SHA-256; see :func:`join_masks`.

    Raises:
        DataError: see :func:`join_masks`.
    """
    document, sha256 = read_document(path, "")
    sizes = {image["id"]: (image["height"], image["width"]) for image in source.images}
    if isinstance(document, list):
        entries = [(f"{path}: entry {i}", entry) for i, entry in enumerate(document)]
        image_ids: dict[Any, Any] | None = None
        classes = {c: c for c in source.id_to_contiguous}
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
    for label, entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f"{label}: found {show(entry)}, expected an object")
        image_id: Any = entry.get("image_id")
        if image_ids is not None:
            if image_id not in image_ids:
                continue
            image_id = image_ids[image_id]
        elif not is_image_id(image_id) or image_id not in sizes:
            raise DataError(
                f"{label}: key 'image_id': {show(image_id)} is not among the images of {source.json_file}"
            )
        category_id = entry.get("category_id") if match_class else None
        if category_id is not None:
            if isinstance(document, dict) and category_id not in classes:
                continue  # a class that the source does not have
            category_id = _known_class(category_id, classes, label, source)
        mask = _code(entry, sizes[image_id], label)
        if mask is not None:
            box, score = _box(entry, mask, label), _score(entry, label)
            ids = entry.get("annotation_id"), entry.get("id")
            masks.append(ExternalMask(label, image_id, category_id, box, mask, score, *ids))
    if not masks:
        raise DataError(
            f"{path}: found no mask of an image of {source.json_file}, expected a list of results or a COCO object"
        )
    return masks, sha256


def _known_class(category_id: Any, classes: dict[int, int], label: str, source: CocoSource) -> int:
    if not is_integer(category_id) or category_id not in classes:
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
                    f"{twin[side]} as image {twin['id']!r} has in {source.json_file}"
                )
        ids[image["id"]] = twin["id"]
    return ids


def _classes_by_name(other: CocoSource, source: CocoSource) -> dict[int, int]:
    """Category id of the file to that of the source."""
    ours = {category["name"]: category["id"] for category in source.categories}
    classes = {c["id"]: ours[c["name"]] for c in other.categories if c["name"] in ours}
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
            f"{label}: key 'bbox': found {show(box)}, expected four finite numbers x, y, width, height"
        )
    return xywh_to_xyxy(box)


def _score(entry: dict[str, Any], label: str) -> float:
    score = entry.get("score", 1.0)
    if not is_number(score) or not 0 <= score <= 1:
        raise DataError(f"{label}: key 'score': found {show(score)}, expected a number from 0 to 1")
    return float(score)


def _contradiction(mask: ExternalMask, annotation: Annotation) -> str | None:
    """Why a mask cannot be the annotation's that it names."""
    if mask.image_id != annotation["image_id"]:
        return f"is of image {mask.image_id!r}, the annotation of image {annotation['image_id']!r}"
    if mask.category_id not in (None, annotation["category_id"]):
        return f"is of category {mask.category_id}, the annotation of {annotation['category_id']}"
    return None


def _ids_agree(
    masks: list[ExternalMask], source: CocoSource, targets: dict[int, Annotation]
) -> bool:
    """Whether ``id`` can be what the masks are to be joined by."""
    known = {a["id"]: a for a in source.annotations}
    ids = [mask.own_id for mask in masks]
    if not all(isinstance(i, int) and i in known for i in ids) or len(set(ids)) < len(ids):
        return False
    if any(_contradiction(mask, known[mask.own_id]) for mask in masks):
        return False
    of_boxes = [mask for mask in masks if mask.own_id in targets]
    return all(box_iou(m.box, xywh_to_xyxy(targets[m.own_id]["bbox"])) > 0 for m in of_boxes)


def _by_id(
    masks: list[ExternalMask],
    source: CocoSource,
    targets: dict[int, Annotation],
    id_of: Callable[[ExternalMask], Any],
    key: str,
) -> dict[int, ExternalMask]:
    """Annotation id to the mask that names it; of several the one of the highest score, the first on a tie."""
    known = {a["id"]: a for a in source.annotations}
    joined: dict[int, ExternalMask] = {}
    for mask in masks:
        value = id_of(mask)
        if not is_integer(value) or value not in known:
            raise DataError(
                f"{mask.label}: key '{key}': {show(value)} is not among the annotations of {source.json_file}"
            )
        problem = _contradiction(mask, known[value])
        if problem:
            raise DataError(
                f"{mask.label}: key '{key}': found {value}, but the mask {problem} in {source.json_file}"
            )
        if value in targets and (value not in joined or mask.score > joined[value].score):
            joined[value] = mask
    return joined


def _by_box(
    masks: list[ExternalMask], annotations: list[Annotation], source: CocoSource, min_iou: float
) -> dict[int, ExternalMask]:
    """Pairs within each image, the largest IoU first; then the higher score, then the order of the files."""
    of_image: dict[Any, tuple[list[ExternalMask], list[Annotation]]] = defaultdict(lambda: ([], []))
    for mask in masks:
        of_image[mask.image_id][0].append(mask)
    for annotation in annotations:
        of_image[annotation["image_id"]][1].append(annotation)
    joined: dict[int, ExternalMask] = {}
    for image in source.images:
        theirs, ours = of_image[image["id"]]
        if not theirs or not ours:
            continue
        boxes = clip_boxes(xywh_to_xyxy([a["bbox"] for a in ours]), image["height"], image["width"])
        overlap = box_iou(np.stack([mask.box for mask in theirs])[:, None], boxes[None])
        pairs = [
            (i, j)
            for i, j in np.argwhere(overlap >= min_iou).tolist()
            if theirs[i].category_id in (None, ours[j]["category_id"])
        ]
        pairs.sort(key=lambda pair: (-overlap[pair], -theirs[pair[0]].score))
        taken = set()
        for i, j in pairs:
            if i not in taken and ours[j]["id"] not in joined:
                taken.add(i)
                joined[ours[j]["id"]] = theirs[i]
    return joined
