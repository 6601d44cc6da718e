"""What a comparison shows: its table, and pictures of what each teacher and each student made beside the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from wsis.data.images import read_image
from wsis.data.source import CocoSource, load_source
from wsis.report.overlay import contact_sheet, overlay
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import read_json
from wsis.structures.rle import decode_mask, segmentation_to_rle

Annotation = dict[str, Any]


def format_results(results: dict[str, Any]) -> str:
    """The table of a finished comparison."""
    columns = {
        "proxy_mIoU": ("proxy mIoU", ".3f"),
        "AP": ("student AP", ".1f"),
        "AP50": ("AP50", ".1f"),
        "AP75": ("AP75", ".1f"),
        "share": ("share", ".2f"),
    }
    if any("mIoU" in row for row in results["rows"].values()):
        columns |= {"mIoU": ("student mIoU", ".1f"), "mIoU_share": ("share", ".2f")}
    head, formats = zip(*columns.values(), strict=True)
    rows = [[name, *map(row.get, columns)] for name, row in results["rows"].items()]
    return tabulate(
        rows,
        ["masks from", *head],
        tablefmt="github",
        floatfmt=("", *formats),
        missingval="-",
    )


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
        if a.get("status") not in ("empty", "failed")
        else np.zeros(size, dtype=bool)
        for a in annotations
    ]


def teacher_sheet(
    truth: CocoSource, proxies: Mapping[str, Path], count: int = 4, height: int = 200
) -> np.ndarray:
    """Boxes, each teacher's masks, and the true masks, one image per row: images that all teachers have masks of.

    Args:
        truth: source with true masks.
        proxies: column title to proxy-mask file of the same annotations.
        count: number of images.
        height: pictures are enlarged by a whole number towards this many pixels.
    """
    files = {name: load_source(path, bad_box="skip") for name, path in proxies.items()}
    common = {image["id"] for image in truth.images}
    for proxy in files.values():
        common &= {image["id"] for image in proxy.images}
    rows = []
    for image in pick_images(truth, count, among=common):
        pixels = read_image(truth.path_of(image), image["height"], image["width"])
        scale = max(1, round(height / image["height"]))
        annotations = truth.annotations_of(image["id"])
        row = [
            overlay(
                pixels, boxes=[xywh_to_xyxy(a["bbox"]).tolist() for a in annotations], scale=scale
            )
        ]
        for proxy in (*files.values(), truth):
            masks = _masks(proxy.annotations_of(image["id"]), image)
            row.append(overlay(pixels, masks, scale=scale))
        rows.append(row)
    return contact_sheet(rows, ["given boxes", *files, "true masks"])


def student_sheet(
    truth: CocoSource,
    predictions: Mapping[str, Path],
    count: int = 4,
    height: int = 200,
    threshold: float = 0.5,
) -> np.ndarray:
    """What each student predicts on images that it has not seen, and the true masks.

    Args:
        truth: source with true masks.
        predictions: column title to a COCO results file (a list with ``image_id``, ``score``,
            ``segmentation``).
        count, height: see :func:`teacher_sheet`.
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
        scale = max(1, round(height / image["height"]))
        row = [overlay(pixels, scale=scale)]
        for results in by_image.values():
            row.append(overlay(pixels, _masks(results.get(image["id"], []), image), scale=scale))
        row.append(overlay(pixels, _masks(truth.annotations_of(image["id"]), image), scale=scale))
        rows.append(row)
    return contact_sheet(rows, ["image", *(f"student: {name}" for name in by_image), "truth"])
