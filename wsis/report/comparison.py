"""What a comparison shows: its table, and pictures of what each teacher and each student made beside the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tabulate import tabulate

from wsis.data.images import read_image
from wsis.data.source import CocoSource
from wsis.errors import DataError
from wsis.report.overlay import contact_sheet, overlay
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import read_json
from wsis.structures.rle import decode_mask, segmentation_to_rle

Annotation = dict[str, Any]

WIDTH = 256
"""Of the pictures in a sheet, in pixels."""


def format_results(results: dict[str, Any]) -> str:
    """The table of a finished comparison."""
    columns = {"proxy_mIoU": ("proxy mIoU", ".3f")}
    known = {key for row in results["rows"].values() for key in row}
    if "AP" in known:
        columns |= {key: (key, ".1f") for key in ("AP", "AP50", "AP75")}
        columns |= {"AP": ("student AP", ".1f"), "share": ("share", ".2f")}
    else:
        columns["proxy_IoU75"] = ("IoU@75", ".3f")
    if "mIoU" in known:
        columns |= {"mIoU": ("student mIoU", ".1f"), "mIoU_share": ("share", ".2f")}
    head, formats = zip(*columns.values(), strict=True)
    rows = [
        [name, *(_with_range(row, key) for key in columns)] for name, row in results["rows"].items()
    ]
    return tabulate(
        rows,
        ["masks from", *head],
        tablefmt="github",
        floatfmt=("", *formats),
        missingval="-",
    )


def _with_range(row: Mapping[str, Any], key: str) -> Any:
    """A row's value; of several seeds the mean, and from where to where they go."""
    if key not in (row.get("seeds") or [{}])[0]:
        return row.get(key)
    each = [seed[key] for seed in row["seeds"]]
    return f"{row[key]:.1f} ({min(each):.1f} - {max(each):.1f})"


def pick_images(
    source: CocoSource, count: int, least: int = 2, among: Iterable[Any] | None = None
) -> list[dict[str, Any]]:
    """Images spread evenly over a source, those with at least ``least`` boxes first choice.

    Args:
        source: of the images.
        count: at most so many.
        least: boxes.
        among: ids of images to choose from; None = all.
    """
    wanted = {image["id"] for image in source.images} if among is None else set(among)
    known = [image for image in source.images if image["id"] in wanted]
    images = [im for im in known if len(source.annotations_of(im["id"])) >= least] or known
    places = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return [images[i] for i in dict.fromkeys(places.tolist())]


def _masks(annotations: Sequence[Annotation], image: dict[str, Any]) -> list[np.ndarray]:
    size = image["height"], image["width"]
    return [
        decode_mask(segmentation_to_rle(a["segmentation"], *size))
        if a.get("segmentation") and a.get("status") not in ("empty", "failed")
        else np.zeros(size, dtype=bool)
        for a in annotations
    ]


def _picture(
    pixels: np.ndarray,
    width: int,
    masks: Sequence[np.ndarray] = (),
    boxes: Sequence[Sequence[float]] = (),
) -> np.ndarray:
    """An image of any size with masks or boxes, enlarged by a whole number towards a width, or made as small."""
    share = width / pixels.shape[1]
    if share < 1:
        size = width, max(1, round(pixels.shape[0] * share))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        large = (mask.astype(np.uint8) * 255 for mask in masks)
        masks = [cv2.resize(m, size, interpolation=cv2.INTER_AREA) >= 128 for m in large]
        boxes = [[share * value for value in box] for box in boxes]
    return overlay(pixels, masks, boxes, scale=max(1, round(share)))


def teacher_sheet(
    columns: Mapping[str, CocoSource], count: int = 4, width: int = WIDTH
) -> np.ndarray:
    """Boxes, and the masks that several files have of them, one image per row: images that all files have.

    Args:
        columns: title to file; the last one has the boxes, and knows where the images are.
        count: number of images.
        width: of a picture in pixels; one of a smaller image is as near to it as a whole-number enlargement gets.

    Raises:
        DataError: the files have no image in common.
    """
    source = list(columns.values())[-1]
    common = {image["id"] for image in source.images}
    for each in columns.values():
        common &= {image["id"] for image in each.images}
    if not common:
        names = ", ".join(each.json_file for each in columns.values())
        raise DataError(f"{names}: found no image that all have, expected masks of the same images")
    rows = []
    for image in pick_images(source, count, among=common):
        pixels = read_image(source.path_of(image), image["height"], image["width"])
        boxes = [xywh_to_xyxy(a["bbox"]).tolist() for a in source.annotations_of(image["id"])]
        row = [_picture(pixels, width, boxes=boxes)]
        for each in columns.values():
            masks = _masks(each.annotations_of(image["id"]), image)
            row.append(_picture(pixels, width, masks))
        rows.append(row)
    return contact_sheet(rows, ["given boxes", *columns])


def student_sheet(
    truth: CocoSource,
    predictions: Mapping[str, Path],
    count: int = 4,
    width: int = WIDTH,
    threshold: float = 0.5,
) -> np.ndarray:
    """What each student predicts on images that it has not seen, and the true masks.

    Args:
        truth: source with true masks.
        predictions: column title to a COCO results file (a list with ``image_id``, ``score``,
            ``segmentation``).
        count, width: see :func:`teacher_sheet`.
        threshold: least score of a prediction that is drawn.
    """
    by_image: dict[str, dict[Any, list[Annotation]]] = {}
    for name, path in predictions.items():
        by_image[name] = {}
        for result in read_json(path):
            if result["score"] >= threshold and "segmentation" in result:
                by_image[name].setdefault(result["image_id"], []).append(result)
    rows = []
    for image in pick_images(truth, count):
        pixels = read_image(truth.path_of(image), image["height"], image["width"])
        found = [results.get(image["id"], []) for results in by_image.values()]
        drawn = [_masks(each, image) for each in (*found, truth.annotations_of(image["id"]))]
        rows.append([_picture(pixels, width), *(_picture(pixels, width, each) for each in drawn)])
    return contact_sheet(rows, ["image", *(f"student: {name}" for name in by_image), "truth"])
