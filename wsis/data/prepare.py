"""What the converters of public datasets share: files read and written safely, work in parallel."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from wsis.data.builtin_paths import datasets_root
from wsis.data.source import check_document
from wsis.errors import DataError, counted
from wsis.structures.boxes import mask_to_box
from wsis.structures.proxy_file import read_json
from wsis.structures.rle import encode_mask, rle_area

Item = TypeVar("Item")
Result = TypeVar("Result")

_ANNOTATION_MASK_KEYS = ("segmentation", "ignore_segmentation", "keypoints", "num_keypoints")
# All that Pillow raises on a damaged file.
IMAGE_ERRORS = (OSError, SyntaxError, ValueError)


def converter_parser(doc: str | None, holds: str, workers: bool = True) -> argparse.ArgumentParser:
    """The command line of a converter: ``--root`` and ``--workers``.

    Args:
        doc: the converter's docstring, whose first line describes it.
        holds: what is to be found in the root.
        workers: whether it works in processes.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    parser.add_argument(
        "--root",
        type=Path,
        default=datasets_root(),
        help=f"folder that holds {holds} (default: $DETECTRON2_DATASETS)",
    )
    if workers:
        parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    return parser


def first_images(path: str | os.PathLike[str], count: int) -> dict[str, Any]:
    """The first images of a COCO file, with their annotations, as a document of their own.

    Args:
        path: COCO JSON.
        count: of images, at least 1.

    Raises:
        DataError: not COCO JSON, or fewer images.
    """
    document = read_json(path)
    source = check_document(document, os.fspath(path), "", "", bad_box="skip", need_boxes=False)
    images = source.images[:count]
    if len(images) < count:
        raise DataError(f"{path}: found {counted(len(images), 'image')}, expected at least {count}")
    kept = {image["id"] for image in images}
    annotations = [each for each in source.annotations if each["image_id"] in kept]
    lists = {"images": images, "annotations": annotations, "categories": source.categories}
    return document | lists


def boxes_only(document: dict[str, Any]) -> dict[str, Any]:
    """A COCO document without anything that was measured on a mask.

    Args:
        document: COCO JSON; left as it is.

    Returns:
        The same images, categories, annotation ids and boxes; `segmentation`, keypoints and the
        images' `void` are gone, `area` is the box's area (a mask's area is a hint of its shape).
    """
    images = [{k: v for k, v in image.items() if k != "void"} for image in document["images"]]
    annotations = [
        {k: v for k, v in annotation.items() if k not in _ANNOTATION_MASK_KEYS}
        | {"area": annotation["bbox"][2] * annotation["bbox"][3]}
        for annotation in document["annotations"]
    ]
    return document | {"images": images, "annotations": annotations}


def part_of(
    document: dict[str, Any], image_ids: Collection[int], description: str
) -> dict[str, Any]:
    """Some images of a COCO document.

    Args:
        document: COCO JSON; left as it is.
        image_ids: of the images to keep.
        description: of the part.

    Returns:
        These images and their annotations, ids included, in the same order.
    """
    return document | {
        "info": {"description": description},
        "images": [image for image in document["images"] if image["id"] in image_ids],
        "annotations": [a for a in document["annotations"] if a["image_id"] in image_ids],
    }


def number_annotations(
    records: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Joins per-image records; annotations get `image_id` and ids 1, 2, ... in the order given.

    Args:
        records: (image, its annotations without `id` and `image_id`) of each image.

    Returns:
        All images and all annotations.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, members in records:
        images.append(image)
        for member in members:
            annotations.append({"id": len(annotations) + 1, "image_id": image["id"]} | member)
    return images, annotations


def mask_annotation(mask: np.ndarray, category_id: int) -> dict[str, Any] | None:
    """A COCO annotation without `id` and `image_id`: a mask (H, W) bool with its tight box; None if it is empty."""
    box = mask_to_box(mask)
    if box is None:
        return None
    rle = encode_mask(mask)
    return {
        "category_id": category_id,
        "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
        "area": rle_area(rle),
        "iscrowd": 0,
        "segmentation": rle,
    }


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, label: str
) -> list[Result]:
    """`function` over `items` in order, with a progress bar on a terminal.

    Args:
        function: picklable.
        items: its arguments.
        workers: number of processes; 1 works in this one.
        label: text before the bar.

    Raises:
        Exception: the first one that `function` raised; the other workers are stopped.
    """
    with contextlib.ExitStack() as stack:
        results: Iterable[Result] = map(function, items)
        if workers > 1 and len(items) > 1:
            pool = stack.enter_context(multiprocessing.Pool(min(workers, len(items))))
            results = pool.imap(function, items, chunksize=8)
        return list(tqdm(results, total=len(items), desc=label, unit="image", disable=None))


def require_folder(folder: Path, hint: str) -> Path:
    """Returns `folder`.

    Raises:
        DataError: it is not there; `hint` says what belongs in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected {hint} (see datasets/README.md)")
    return folder


def image_size(path: Path) -> tuple[int, int]:
    """Height and width from an image file's header, as stored (EXIF is not applied).

    Raises:
        DataError: no such file, or not an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image") from error
    except IMAGE_ERRORS as error:
        raise DataError(f"{path}: not a readable image") from error
