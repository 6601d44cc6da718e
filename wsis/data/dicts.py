"""From a COCO source to Detectron2's standard dicts, behind the supervision guard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from detectron2.structures import BoxMode

from wsis.data.source import CocoSource, check_document
from wsis.errors import ConfigError, DataError, counted
from wsis.structures.boxes import clip_boxes, xywh_to_xyxy
from wsis.structures.rle import MASK_CURE, check_polygons, read_mask

SUPERVISIONS = ("box", "image", "proxy", "mask")
_MASK_KEYS = ("segmentation", "ignore_segmentation", "score")


def to_dicts(
    source: CocoSource, supervision: str = "mask", class_agnostic: bool = False
) -> list[dict[str, Any]]:
    """Detectron2's standard dicts of a source, with no more in them than the supervision allows.

    Args:
        source: the data.
        supervision: "box": no mask, and nothing that came from one; "image": no box either, but one annotation for each
            tag; "proxy": masks, if a teacher wrote the file; "mask": masks as they are.
        class_agnostic: all categories become class 0.

    Returns:
        One dict per image, in the file's order: ``file_name``, ``height``, ``width``, ``image_id``, ``image_labels``
        (sorted contiguous classes: the image's own, else those of its annotations without crowds) and ``annotations``
        with ``bbox`` (XYXY_ABS, cut to the image), ``bbox_mode``, ``category_id`` (contiguous), ``iscrowd``, ``id``;
        with masks also ``segmentation``, ``ignore_segmentation`` and ``score`` where the source has them. Bad boxes of
        the source are left out.

    Raises:
        ConfigError: unknown supervision, or "proxy" for a file that no teacher wrote.
        DataError: a mask that the supervision would use is malformed.
    """
    check_supervision(supervision)
    if supervision == "proxy" and "wsis" not in source.info:
        raise ConfigError(
            f"WSIS.SUPERVISION proxy: {source.json_file} has no info.wsis, so its masks are not a teacher's; "
            "make masks of its boxes by tools/generate_proxy_masks.py, or use WSIS.SUPERVISION mask to train on true "
            "masks"
        )
    keep_masks = supervision in ("proxy", "mask")
    if keep_masks:
        check_masks(source)
    numbers = {c: 0 if class_agnostic else i for c, i in source.id_to_contiguous.items()}
    dicts = []
    for image in source.images:
        annotations = source.annotations_of(image["id"])
        record = {
            "file_name": source.path_of(image),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
        }
        objects = [a["category_id"] for a in annotations if not a.get("iscrowd")]
        tags = sorted({numbers[c] for c in image.get("image_labels", objects)})
        record["image_labels"] = tags
        if supervision == "image":
            record["annotations"] = [{"category_id": tag, "iscrowd": 0} for tag in tags]
        else:
            record["annotations"] = [
                _to_annotation(a, numbers[a["category_id"]], image, keep_masks)
                for a in annotations
                if a["id"] not in source.bad_boxes
            ]
        dicts.append(record)
    return dicts


def check_supervision(supervision: str) -> None:
    """Checks the value of ``WSIS.SUPERVISION``.

    Raises:
        ConfigError: there is no such supervision.
    """
    if supervision not in SUPERVISIONS:
        raise ConfigError(
            f"WSIS.SUPERVISION: found {supervision!r}, expected one of {', '.join(SUPERVISIONS)}"
        )


def _to_annotation(
    annotation: dict[str, Any], category: int, image: dict[str, Any], keep_masks: bool
) -> dict[str, Any]:
    height, width = image["height"], image["width"]
    out = {"id": annotation["id"], "category_id": category, "iscrowd": annotation.get("iscrowd", 0)}
    if "bbox" in annotation:
        out["bbox"] = clip_boxes(xywh_to_xyxy(annotation["bbox"]), height, width).tolist()
        out["bbox_mode"] = BoxMode.XYXY_ABS
    if keep_masks:
        for key in _MASK_KEYS:
            if annotation.get(key) not in (None, []):
                out[key] = annotation[key]
    return out


def check_segmentation(
    annotation: dict[str, Any], key: str, height: int, width: int, name: str
) -> None:
    """Checks the form of one mask.

    Raises:
        DataError: not a list of polygons with three points or more, nor a code of the image's size.
    """
    label = f"{name}: annotation {annotation['id']}"
    if not isinstance(annotation[key], list):
        read_mask(annotation, key, (height, width), label)
        return
    try:  # rasterising would check no more than the form
        check_polygons(annotation[key])
    except ValueError as error:
        raise DataError(f"{label}: key '{key}': {error}; {MASK_CURE}") from error


def check_masks(source: CocoSource) -> None:
    """Checks the form of every mask of a source.

    Raises:
        DataError: the first that is malformed, and how many more there are.
    """
    errors = mask_errors(source.images, source.annotations, source.json_file)
    if errors:
        raise DataError(one_line(errors))


def mask_errors(
    images: Iterable[dict[str, Any]], annotations: Iterable[dict[str, Any]], name: str
) -> dict[int, str]:
    """What is wrong with masks, by the id of their annotation."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    errors: dict[int, str] = {}
    for annotation in annotations:
        for key in _MASK_KEYS[:2]:
            if annotation.get(key) not in (None, []):
                try:
                    check_segmentation(annotation, key, *sizes[annotation["image_id"]], name)
                except DataError as error:
                    errors.setdefault(annotation["id"], str(error))
    return errors


def one_line(errors: dict[int, str]) -> str:
    """The first of some errors about masks, with the number of the others."""
    first, *others = errors.values()
    more = f" (and {counted(len(others), 'more mask')})" if others else ""
    return f"{first}{more}"


def source_from_dicts(name: str, dicts: list[dict[str, Any]], class_names: list[str]) -> CocoSource:
    """A source from a dataset that was registered from Python, so that it takes the same way as any other.

    Args:
        name: the dataset's registered name, for messages.
        dicts: Detectron2 standard dicts; annotations without ``id`` get their 1-based position.
        class_names: of the contiguous classes.

    Raises:
        DataError: a dict lacks its size or id, or anything that :func:`wsis.data.source.load_source` refuses.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in dicts:
        for key in ("image_id", "file_name", "height", "width"):
            if key not in record:
                raise DataError(
                    f"dataset {name}: image number {len(images)}: key '{key}' is missing"
                )
        images.append({"id": record["image_id"], "file_name": record["file_name"]})
        images[-1].update(height=record["height"], width=record["width"])
        for annotation in record.get("annotations", []):
            out = {k: v for k, v in annotation.items() if k not in ("bbox", "bbox_mode")}
            out.setdefault("id", len(annotations) + 1)
            out["image_id"] = record["image_id"]
            if "bbox" in annotation:
                mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
                box = BoxMode.convert(
                    [float(v) for v in annotation["bbox"]], mode, BoxMode.XYWH_ABS
                )
                out["bbox"] = list(box)
            annotations.append(out)
    categories = [{"id": i, "name": class_name} for i, class_name in enumerate(class_names)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    digest = hashlib.sha256(json.dumps(document, default=str, sort_keys=True).encode()).hexdigest()
    return check_document(
        document, f"dataset {name}", "", digest, bad_box="later", need_boxes=False
    )
