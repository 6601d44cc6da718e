"""Semantic label maps: read from PNG folders, or drawn from the masks of instances."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsis.data.dicts import to_dicts
from wsis.data.registration import get_source, label_folders
from wsis.data.source import CocoSource
from wsis.data.values import show
from wsis.errors import ConfigError, DataError, counted
from wsis.structures.boxes import box_to_slices, xywh_to_xyxy
from wsis.structures.proxy_file import read_json
from wsis.structures.pseudo_labels import IGNORE, MANIFEST, label_path
from wsis.structures.rle import decode_mask, read_mask

ImageRecord = dict[str, Any]
LabelReader = Callable[[ImageRecord], np.ndarray]
"""The label map, (H, W) uint8, of an image entry of a COCO file."""

_MODES = ("P", "L", "1")
_OPEN_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_label(
    path: str | os.PathLike[str],
    height: int | None = None,
    width: int | None = None,
    num_classes: int | None = None,
) -> np.ndarray:
    """Reads one label map.

    Args:
        path: of an 8-bit PNG, with a palette or grey.
        height, width: expected size; None = any.
        num_classes: C, background included; None = any values.

    Returns:
        (H, W) uint8, 0 .. C - 1 and 255.

    Raises:
        DataError: it cannot be read, has another size or form, or a value in between.
    """
    try:
        with Image.open(path) as image:
            _check_header(image, path, height, width)
            label = np.asarray(image).astype(np.uint8)
    except _OPEN_ERRORS as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as a label map ({reason})") from error
    if num_classes is not None:
        check_values(label, num_classes, path)
    return label


def check_values(label: np.ndarray, num_classes: int, path: str | os.PathLike[str]) -> None:
    """Checks that a label map (H, W) uint8 of a file holds nothing but 0 .. C - 1 and 255.

    Raises:
        DataError: it does.
    """
    wrong = label[(label >= num_classes) & (label != IGNORE)]
    if wrong.size:
        raise DataError(
            f"{path}: found the value {wrong[0]}, expected 0 to {num_classes - 1} or {IGNORE}; write 0 for background, "
            f"1, 2, ... for the classes by ascending category id, {IGNORE} for void"
        )


def _check_header(
    image: Image.Image, path: str | os.PathLike[str], height: int | None, width: int | None
) -> None:
    if image.mode not in _MODES:
        raise DataError(
            f"{path}: found a PNG of mode {image.mode}, expected 8 bits with a palette or grey; write the number of "
            "the class, not its colour, into each pixel"
        )
    if height is not None and width is not None and image.size != (width, height):
        raise DataError(
            f"{path}: the label map is {image.width}x{image.height} (width x height), the image {width}x{height}; "
            "make it of the image itself, at its size"
        )


def check_label_files(source: CocoSource, folder: str | os.PathLike[str]) -> None:
    """Checks that every image has a label map of its size, reading headers only.

    Args:
        source: the images.
        folder: of the label maps.

    Raises:
        DataError: the first image that has none, or one of another size or form.
    """

    def check(image: ImageRecord) -> str:
        path = label_path(folder, "", image["file_name"])
        try:
            with Image.open(path) as header:
                _check_header(header, path, image["height"], image["width"])
        except _OPEN_ERRORS:
            return (
                f"{path}: cannot be read as a label map, expected that of image {image['id']!r} of {source.json_file}; "
                "name it like its image, with the suffix .png"
            )
        except DataError as error:
            return str(error)
        return ""

    if not os.path.isdir(folder):
        raise DataError(
            f"{folder}: no such folder of label maps (for {source.json_file}); name it in "
            "DATASETS.CUSTOM_SEM_SEG"
        )
    with ThreadPoolExecutor(max_workers=8) as pool:
        errors = [error for error in pool.map(check, source.images, chunksize=64) if error]
    if errors:
        more = f" (and {counted(len(errors) - 1, 'more label map')})" if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}{more}")


def read_manifest(folder: str | os.PathLike[str], kind: str = "labels") -> dict[str, Any] | None:
    """What is written beside a folder of labels, or of ``score_maps``, that a teacher made; None where nothing is.

    Raises:
        DataError: it is not JSON, or names no classes.
    """
    path = Path(folder).parent / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    labels = manifest.get(kind) if isinstance(manifest, dict) else None
    if not isinstance(labels, list) or Path(folder).name not in labels:
        return None
    classes = manifest.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"{path}: key 'classes': found {show(classes)}, expected a list of names")
    return manifest


def check_pseudo_labels(folder: str | os.PathLike[str], class_names: Sequence[str]) -> None:
    """Checks that a teacher made the labels of a folder, and for these classes.

    Args:
        folder: of the label maps.
        class_names: of the dataset, without background.

    Raises:
        ConfigError: no manifest beside it names it; it may hold true labels.
        DataError: its labels are of other classes.
    """
    manifest = read_manifest(folder)
    if manifest is None or "wsis" not in manifest:
        raise ConfigError(
            f"{folder}: no {MANIFEST} beside this folder names it, so its labels are not a teacher's"
        )
    check_label_classes(folder, ["background", *class_names])


def check_label_classes(
    folder: str | os.PathLike[str], class_names: Sequence[str], kind: str = "labels"
) -> None:
    """Checks that the manifest beside a label folder, if there is one, names these classes.

    Args:
        folder: of the label maps.
        class_names: C, background first.
        kind: see :func:`read_manifest`.

    Raises:
        DataError: it names others.
    """
    manifest = read_manifest(folder, kind)
    if manifest is not None and manifest["classes"] != list(class_names):
        raise DataError(
            f"{Path(folder).parent / MANIFEST}: key 'classes': found {_brief(manifest['classes'])}, expected "
            f"{_brief(list(class_names))} as in the dataset; make the labels anew"
        )


def _brief(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"


def instances_to_label(source: CocoSource, image: ImageRecord) -> np.ndarray:
    """The label map of an image from its instances' masks.

    A pixel in masks of several classes, in a crowd, in the image's void, or, outside of all masks, in the box of an
    object without a mask is 255: nothing is known of it.

    Args:
        source: with masks.
        image: one of its images.

    Returns:
        (H, W) uint8: 0 = background, c + 1 = contiguous class c.

    Raises:
        DataError: a mask cannot be decoded.
    """
    height, width = image["height"], image["width"]
    label = np.zeros((height, width), dtype=np.uint8)
    unknown = np.zeros((height, width), dtype=bool)
    without_mask = np.zeros((height, width), dtype=bool)
    if image.get("void"):
        name = f"{source.json_file}: image {image['id']!r}"
        unknown |= decode_mask(read_mask(image, "void", (height, width), name))
    for annotation in source.annotations_of(image["id"]):
        value = source.id_to_contiguous[annotation["category_id"]] + 1
        if not annotation.get("segmentation"):
            if "bbox" in annotation:
                box = xywh_to_xyxy(annotation["bbox"])
                without_mask[box_to_slices(box, height, width)] = True
            continue
        name = f"{source.json_file}: annotation {annotation['id']}"
        mask = decode_mask(read_mask(annotation, "segmentation", (height, width), name))
        if annotation.get("iscrowd"):
            unknown |= mask
            continue
        unknown |= mask & (label != 0) & (label != value)
        label[mask] = value
    label[without_mask & (label == 0)] = IGNORE
    label[unknown] = IGNORE
    return label


def truth_reader(name: str, class_agnostic: bool = False) -> LabelReader:
    """Reads the true label maps of a dataset: its only label folder, or else the masks of its instances.

    Args:
        name: of the dataset.
        class_agnostic: all classes become 1.

    Raises:
        ConfigError: the dataset has neither, several label folders, or more classes than a label can name.
    """
    source = get_source(name, bad_box="skip", need_boxes=False)
    folders = label_folders(name)
    num_classes = len(source.class_names) + 1
    if num_classes > IGNORE:
        raise ConfigError(
            f"DATASETS: {name!r} has {num_classes - 1} classes, expected at most {IGNORE - 1} in label maps of 8 bits"
        )
    if len(folders) > 1:
        raise ConfigError(
            f"DATASETS: {name!r} has the labels {', '.join(folders)}, expected one, the true one"
        )
    if not folders and not source.has_masks:
        raise ConfigError(
            f"DATASETS: {name!r} has no label folder and {source.json_file} no masks, expected true labels"
        )

    def read(image: ImageRecord) -> np.ndarray:
        if not folders:
            label = instances_to_label(source, image)
        else:
            path = label_path(next(iter(folders.values())), "", image["file_name"])
            label = read_label(path, image["height"], image["width"], num_classes)
        return merge_classes(label) if class_agnostic else label

    return read


def check_truth(name: str) -> None:
    """Checks the true label maps of a dataset, as far as that can be done without reading pixels.

    Raises:
        ConfigError: as :func:`truth_reader`.
        DataError: an image has no label map of its size, the maps are of other classes, or a mask is malformed.
    """
    truth_reader(name)
    source = get_source(name, bad_box="skip", need_boxes=False)
    for folder in label_folders(name).values():
        check_label_classes(folder, ["background", *source.class_names])
        check_label_files(source, folder)
    if not label_folders(name):
        to_dicts(source, "mask")


def merge_classes(label: np.ndarray) -> np.ndarray:
    """All classes of a label map as class 1; 0 and 255 stay."""
    return np.where(label == IGNORE, label, np.minimum(label, 1))
