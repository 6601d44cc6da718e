"""What is well-formed and yet hardly meant: a few comparisons over a whole file, each with the likely cause."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wsis.data.source import CocoSource, Image
from wsis.data.table import Annotation, AnnotationTable
from wsis.data.table_builder import table_of
from wsis.layers.iou import box_iou
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.rle import rle_area, segmentation_to_rle, tight_box

SLACK = 1.0
"""Pixels that rounding may move the side of a box or of a mask by."""
MANY = 0.2
"""Share of boxes that lets a whole file be doubted."""
SOME = 0.05
"""Share of masks or areas that is no accident."""
_LOOKED_AT = 5000
"""Masks that are compared with their boxes, spread over the file."""
_PERCENT = 100.5


def no_object(source: CocoSource) -> str:
    """Why no annotation of a file stands for an object with a box that can be used, in one line; "" where one does."""
    if any(not a.get("iscrowd") and a["id"] not in source.bad_boxes for a in source.annotations):
        return ""
    number = len(source.annotations)
    if not number:
        return "there is no annotation; draw a box around each object"
    crowds = int(source.table.crowds.sum())
    every = "the only annotation is" if number == 1 else f"all {number} annotations are"
    if crowds == number:
        what = "a crowd" if number == 1 else "crowds"
        return f"{every} {what}; set iscrowd 0 where an annotation is one object"
    what = "without area, wholly outside its image or a crowd"
    return f"{every} {what}; is bbox x, y, width, height in pixels?"


def doubts(
    images: Iterable[Image],
    annotations: Sequence[Annotation],
    masks: bool = True,
    made_by_teacher: bool = False,
) -> list[str]:
    """What is hardly meant about boxes, masks and areas, in one line each, the likely cause with it.

    Args:
        images, annotations: of a file, without problems.
        masks: they will be used, and so are looked at.
        made_by_teacher: masks and areas are a teacher's, and so say nothing of the boxes.
    """
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    table = annotations
    if not isinstance(table, AnnotationTable):
        table = table_of(annotations, list(sizes))
    table = table.take(~table.crowds & table.has("bbox") & ~table.is_odd)
    if not len(table):
        return []
    boxes, areas = table.columns.boxes, table.columns.areas
    limits = np.array([sizes.get(i, (0, 0)) for i in table.image_ids], dtype=np.float64)
    limits = limits[table.columns.images]
    if made_by_teacher:
        return _box_doubts(table, boxes, limits, np.full(len(table), np.nan))
    areas = np.where(table.has("area"), areas, math.nan)
    lines = _box_doubts(table, boxes, limits, areas)
    if not lines:
        larger = np.flatnonzero(areas > 1.05 * boxes[:, 2:].prod(axis=1) + 4)
        if len(larger) > SOME * len(table):
            lines.append(
                f"{len(larger)} of {len(table)} areas are larger than their boxes, the first is of "
                f"annotation {table[larger[0]]['id']}: are boxes and areas of one size of the images?"
            )
    return lines + (_mask_doubts(table, sizes) if masks else [])


def _box_doubts(
    objects: Sequence[Annotation], boxes: np.ndarray, limits: np.ndarray, areas: np.ndarray
) -> list[str]:
    """Boxes that are no x, y, width, height in pixels.

    Args:
        objects: N annotations.
        boxes: (N, 4) as they stand.
        limits: (N, 2) width and height of their images.
        areas: (N,) as they stand, NaN where there is none.
    """
    number, first, second = len(objects), boxes[:, :2], boxes[:, 2:]
    far = first + second
    all_boxes = f"all {number} boxes" if number > 1 else "the only box"
    if far.max() <= 1.001 and limits.min() > 4:
        return [
            f"{all_boxes} within 0..1: multiply boxes that are shares of the image by its width and height"
        ]
    percent = far.max(axis=0).min() > 80 and far.max() <= _PERCENT
    if number >= 10 and percent and np.median(limits) > 3 * _PERCENT:
        return [f"{all_boxes} within 0..100: are they percent of the image's width and height?"]
    outside = _outside(first, far, limits)
    out, known = int(outside.sum()), areas > 0
    order = ""
    if (second > first).all():
        if not _outside(first, second, limits).any():
            order = "x0, y0, x1, y1"
        elif not _outside(first[:, ::-1], second[:, ::-1], limits).any():
            order = "y0, x0, y1, x1"
    says_corners = known.any() and _share_equal(areas[known], (second - first)[known]) > 0.9
    says_sides = known.any() and _share_equal(areas[known], second[known]) > 0.5
    if order and not says_sides and (out > MANY * number or says_corners):
        reason = f"read so {all_boxes} lie inside, read as x, y, width, height {out} do not"
        if says_corners:
            area, box = next((a["area"], a["bbox"]) for a in objects if a.get("area"))
            reason += f"; the first area is {area:g}, its width x height {box[2] * box[3]:g}"
        return [f"bbox seems to be corners {order}: {reason}; write x, y, width, height"]
    if out < 3 or out <= MANY * number:
        inner = (far / limits).max()
        if number >= 20 and inner < 0.6:
            return [
                f"{all_boxes} within the upper left {inner:.0%} of their images: were the boxes drawn on smaller ones?"
            ]
        return []
    start = f"{out} of {number} boxes reach out of their image"
    if not _outside(first - second / 2, first + second / 2, limits).any():
        return [f"{start}, and none if bbox is centre x, y, width, height; write the corner"]
    return [f"{start}: were the boxes drawn on larger ones?"]


def _outside(near: np.ndarray, far: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(N,) bool: whether a box (N, 2) to (N, 2) reaches out of its image."""
    return np.asarray((near < -SLACK).any(axis=1) | (far > limits + SLACK).any(axis=1))


def _share_equal(areas: np.ndarray, sides: np.ndarray) -> float:
    """Share of the areas (N,) that are the product of the sides (N, 2)."""
    return float((np.abs(areas - sides.prod(axis=1)) <= 0.01 * areas + 1).mean())


def _mask_doubts(table: AnnotationTable, sizes: dict[Any, tuple[int, int]]) -> list[str]:
    """Masks that are their box, or of something else."""
    masked = np.flatnonzero(table.has("segmentation"))
    step = math.ceil(len(masked) / _LOOKED_AT) or 1
    looked_at = [a for a in table.rows(masked[::step]) if a.get("segmentation")]
    filled, strange = [], []
    for annotation in looked_at:
        width, height = sizes[annotation["image_id"]]
        tight = tight_box(annotation["segmentation"], height, width)
        if tight is None:
            continue
        if is_filled_box(annotation, height, width):
            filled.append(annotation["id"])
        elif box_iou(tight, xywh_to_xyxy(annotation["bbox"])) < 0.5:
            strange.append(annotation["id"])
    lines = []
    for found, text, cause in (
        (
            filled,
            "are the filled box itself",
            "a converter may have written boxes as masks; PROXY.KEEP_TRUE_MASKS does not keep them",
        ),
        (
            strange,
            "do not fit their boxes (IoU below 0.5)",
            "are masks and boxes of one size of the images, and of one numbering?",
        ),
    ):
        if len(found) > SOME * len(looked_at):
            number = f"{len(found)} of {len(looked_at)} masks"
            lines.append(f"{number} {text}, the first is of annotation {found[0]}: {cause}")
    return lines


def is_filled_box(annotation: Annotation, height: int, width: int) -> bool:
    """Whether the mask of an annotation is nothing but its box: a mark that a converter made it.

    Args:
        annotation: with ``bbox``; a mask in any form, or none.
        height, width: of its image.
    """
    segmentation, box = annotation.get("segmentation"), annotation.get("bbox")
    if not segmentation or box is None or min(box[2:]) <= 2 * SLACK:
        return False
    tight = tight_box(segmentation, height, width)
    if tight is None or np.abs(tight - xywh_to_xyxy(box)).max() > SLACK:
        return False
    if not isinstance(segmentation, list):
        return rle_area(segmentation_to_rle(segmentation, height, width)) == round(
            (tight[2:] - tight[:2]).prod()
        )
    if len(segmentation) > 1 or len(segmentation[0]) > 10:
        return False
    points = np.reshape(segmentation[0], (-1, 2))
    at_corner = (points == tight[:2]) | (points == tight[2:])
    return bool(at_corner.all()) and len(np.unique(points, axis=0)) == 4
