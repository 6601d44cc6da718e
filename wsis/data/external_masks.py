"""Masks that another tool made, joined to the annotations of a dataset: by id where the file has it, else by box."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wsis.config.params import check, key
from wsis.config.rules import Rule
from wsis.data.external_file import ANY_CLASS_HINT, ExternalMask, ImageFinder, read_masks
from wsis.data.source import Annotation, CocoSource
from wsis.data.values import is_integer, show
from wsis.errors import DataError, counted
from wsis.layers.iou import box_iou
from wsis.structures.boxes import clip_boxes, xywh_to_xyxy
from wsis.structures.rle import rle_area

logger = logging.getLogger(__name__)

JOINS = ("auto", "id", "box")
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
    joined = _join(path, found, source, join, min_iou)
    renumbered = _by_file_number(found, source)
    if renumbered is not None:
        other = _join(path, renumbered, source, join, min_iou)
        if len(other[0]) > len(joined[0]):
            text = "%s: image_id is taken for the number in the file name: %d masks fit a box then, %d as the id"
            logger.warning(text, path, len(other[0]), len(joined[0]))
            joined = other
    masks, summary = joined
    if not masks:
        raise DataError(
            f"{summary}; expected at least one: is it another dataset, or is MODEL.EXTERNAL.MIN_IOU too high? "
            f"Or {ANY_CLASS_HINT}"
        )
    logger.info(summary)
    return JoinedMasks(masks, sha256, summary)


def _by_file_number(found: list[ExternalMask], source: CocoSource) -> list[ExternalMask] | None:
    """The masks as if ``image_id`` were the number that the file name is, as some tools write it; None where that is
    the same, or is not so for all of them.
    """
    numbers = ImageFinder(source).by_number
    sizes = {image["id"]: [image["height"], image["width"]] for image in source.images}
    ids = {mask.image_id for mask in found if mask.image_id != numbers.get(mask.image_id)}
    if not ids or any(mask.annotation_id is not None or mask.by_name for mask in found):
        return None
    if any(sizes.get(numbers.get(m.image_id)) != m.mask["size"] for m in found):
        return None
    return [replace(mask, image_id=numbers[mask.image_id]) for mask in found]


def _join(
    path: str, found: list[ExternalMask], source: CocoSource, join: str, min_iou: float
) -> tuple[dict[int, ExternalMask], str]:
    """Annotation id to its mask, and what was joined how in one line; see :func:`join_masks`."""
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
    taken = {id(mask) for mask in masks.values()}
    anyone = [replace(m, category_id=None) for m in rest if id(m) not in taken]
    free = [a for a in free if a["id"] not in masks]
    of_another = len(_by_box(anyone, free, source, min_iou))
    summary = (
        f"{path}: {counted(len(found), 'mask')} for {counted(len(targets), 'box', 'boxes')}; "
        f"joined by id {number}, by box {len(masks) - number}; boxes without a mask {len(targets) - len(masks)}"
    )
    if of_another:
        summary += f", {of_another} of which one of another class fits; {ANY_CLASS_HINT}"
        logger.warning(summary)
    return masks, summary


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
