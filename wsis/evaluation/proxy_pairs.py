"""A proxy-mask file joined to its ground truth by annotation id, every disagreement refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsis.data.classes import same_names
from wsis.data.source import Annotation, CocoSource
from wsis.errors import DataError, counted
from wsis.structures.boxes import clip_boxes, xywh_to_xyxy
from wsis.structures.proxy_masks import STATUSES
from wsis.structures.rle import RLE, read_mask, rle_area

BOX_TOLERANCE = 1.0
"""Pixels by which two files may give a coordinate of one box: rounding passes, another box does not."""


@dataclass(frozen=True)
class MaskPairs:
    """N proxy masks beside their true masks, crowd regions left out; codes are of the full image.

    Args:
        class_names: all classes of the file, in contiguous order.
        ids: (N,) annotation ids.
        classes: (N,) index into ``class_names``.
        status: N of ``ok``, ``fallback``, ``empty``, ``failed``, ``given``.
        scores: (N,) confidence in [0, 1], 1 where the file has none, 0 where no mask was found.
        boxes: (N, 4) float64 XYXY in original pixels, clipped to the image.
        masks: N codes; None where no mask was found (``empty``, ``failed``).
        ignored: N codes of pixels that the student's mask loss skips, or None.
        true_masks: N codes; None where the ground truth has no mask.
        void: N codes of the pixels of the image that belong to no class for sure, or None.
        num_crowd: crowd regions left out.
    """

    class_names: list[str]
    ids: np.ndarray
    classes: np.ndarray
    status: list[str]
    scores: np.ndarray
    boxes: np.ndarray
    masks: list[RLE | None]
    ignored: list[RLE | None]
    true_masks: list[RLE | None]
    void: list[RLE | None]
    num_crowd: int


def pair_masks(proxy: CocoSource, gt: CocoSource | None = None) -> MaskPairs:
    """Joins by annotation id.

    Args:
        proxy: a proxy-mask file, or any COCO JSON with boxes and masks.
        gt: the same annotations with true masks, or None.

    Raises:
        DataError: a file has no mask at all or one that cannot be read, or the files disagree on annotation ids,
            image, image size, category or box.
    """
    _require_masks(proxy)
    true_of = matching_annotations(proxy, gt) if gt is not None else {}
    sizes = _image_sizes(proxy)
    void_of = _void_of_images(proxy if gt is None else gt)
    rows: list[tuple[Any, ...]] = []
    num_crowd = 0
    for annotation in proxy.annotations:
        truth = true_of.get(annotation["id"], {})
        if annotation.get("iscrowd") or truth.get("iscrowd") or annotation.get("status") == "crowd":
            num_crowd += 1
            continue
        size = sizes[annotation["image_id"]]
        status, mask = status_and_mask(annotation, size, proxy.json_file)
        ignored = mask and _code(annotation, "ignore_segmentation", size, proxy.json_file)
        true_mask = gt and _code(truth, "segmentation", size, gt.json_file)
        class_index = proxy.id_to_contiguous[annotation["category_id"]]
        score = float(annotation.get("score", 1.0)) if mask else 0.0
        box = clip_boxes(xywh_to_xyxy(annotation["bbox"]), *size)
        codes = mask, ignored, true_mask, void_of.get(annotation["image_id"])
        rows.append((annotation["id"], class_index, status, score, box, *codes))
    columns = [[row[i] for row in rows] for i in range(9)]
    ids, classes, statuses, scores, boxes, masks, ignores, true_masks, voids = columns
    return MaskPairs(
        class_names=proxy.class_names,
        ids=np.array(ids, dtype=np.int64),
        classes=np.array(classes, dtype=np.int64),
        status=statuses,
        scores=np.array(scores, dtype=np.float64),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        masks=masks,
        ignored=ignores,
        true_masks=true_masks,
        void=voids,
        num_crowd=num_crowd,
    )


def segmentation_kind(annotations: Iterable[Annotation]) -> str | None:
    """How masks are given, crowds aside: "raster", "polygon", "mixed", or None where there is none."""
    kinds = {
        "raster" if isinstance(a["segmentation"], dict) else "polygon"
        for a in annotations
        if a.get("segmentation") and not a.get("iscrowd")
    }
    return "mixed" if len(kinds) > 1 else next(iter(kinds), None)


def _require_masks(source: CocoSource) -> None:
    if source.annotations and not any(a.get("segmentation") for a in source.annotations):
        raise DataError(
            f"{source.json_file}: of {counted(len(source.annotations), 'annotation')} none has a 'segmentation', "
            "expected masks"
        )


def _image_sizes(source: CocoSource) -> dict[Any, tuple[int, int]]:
    return {image["id"]: (image["height"], image["width"]) for image in source.images}


def _void_of_images(source: CocoSource) -> dict[Any, RLE]:
    """Image id to the code of its void pixels, for images that have a key ``void``."""
    codes = {
        image["id"]: _code(
            image, "void", (image["height"], image["width"]), source.json_file, "image"
        )
        for image in source.images
    }
    return {image_id: code for image_id, code in codes.items() if code is not None}


def matching_annotations(proxy: CocoSource, gt: CocoSource) -> dict[int, Annotation]:
    """Annotation id to the ground truth's annotation, after checking that both files speak of the same objects."""
    _require_masks(gt)
    true_of = {a["id"]: a for a in gt.annotations}
    proxy_ids = {a["id"] for a in proxy.annotations}
    for ids, here, there in (
        (proxy_ids - true_of.keys(), proxy, gt),
        (true_of.keys() - proxy_ids, gt, proxy),
    ):
        if ids:
            raise DataError(
                f"{here.json_file}: {len(ids)} of {len(here.annotations)} annotation ids (first: {min(ids)}) "
                f"are not in {there.json_file}, expected the same ids in both files; take files of the same boxes; "
                "docs/external_masks.md says how others are joined"
            )
    proxy_sizes, gt_sizes = _image_sizes(proxy), _image_sizes(gt)
    proxy_names, gt_names = ({c["id"]: c["name"] for c in s.categories} for s in (proxy, gt))
    meant = same_names(list(proxy_names.values()), list(gt_names.values()))
    for annotation in proxy.annotations:
        truth = true_of[annotation["id"]]
        image_id, class_name = annotation["image_id"], proxy_names[annotation["category_id"]]
        box: Any = annotation["bbox"]
        true_box: Any = truth.get("bbox", box)
        same_box = np.abs(np.subtract(box, true_box)).max() <= BOX_TOLERANCE
        for what, found, expected in (
            ("key 'image_id'", image_id, truth["image_id"]),
            ("height and width of its image", proxy_sizes[image_id], gt_sizes[truth["image_id"]]),
            (
                "name of its category",
                meant.get(class_name, class_name),
                gt_names[truth["category_id"]],
            ),
            ("key 'bbox'", box, box if same_box else true_box),
        ):
            if found != expected:
                raise DataError(
                    f"{proxy.json_file}: annotation {annotation['id']}: {what}: found {found!r}, "
                    f"expected {expected!r} as in {gt.json_file}; take files of the same boxes"
                )
    return true_of


def status_and_mask(
    annotation: Annotation, size: tuple[int, int], name: str
) -> tuple[str, RLE | None]:
    """The stated status, else ``ok`` or ``empty`` as the mask says; no mask where the status means that."""
    status = annotation.get("status")
    if status in ("empty", "failed"):
        return status, None
    mask = _code(annotation, "segmentation", size, name)
    if mask is None:
        return "empty", None
    return (status if status in STATUSES else "ok"), mask


def _code(
    entry: dict[str, Any], key: str, size: tuple[int, int], name: str, kind: str = "annotation"
) -> RLE | None:
    """The mask under ``key`` of an annotation or image, None where it is missing or has no pixel."""
    if not entry.get(key):
        return None
    code = read_mask(entry, key, size, f"{name}: {kind} {entry['id']}")
    return code if rle_area(code) else None
