"""One strip per image: the image, its boxes, maps and labels made of it, where labels differ, a prediction."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from wsis.data.images import UnreadableImageError, read_image
from wsis.data.labels import check_label_files, read_label
from wsis.data.source import CocoSource
from wsis.errors import DataError
from wsis.report.comparison import pick_images
from wsis.report.overlay import contact_sheet, overlay
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import atomic_writer, remove_torn
from wsis.structures.pseudo_labels import IGNORE, label_path, voc_palette

HATCH = (255, 255, 255)
"""Colour of what is ignored."""
LONGEST = 512
"""Pixels of a picture's longer side at most; what is larger is made smaller."""
TITLES = "Description"
"""Key of a strip's PNG text that names its columns."""


def label_picture(
    image: np.ndarray, label: np.ndarray, opacity: float = 0.6, where: np.ndarray | None = None
) -> np.ndarray:
    """A label map in VOC's colours over its image; 255 is hatched.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8.
        opacity: of the colours, 0 to 1.
        where: (H, W) bool, the only pixels that are coloured; None = all but background.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    colours = np.frombuffer(voc_palette(), dtype=np.uint8).reshape(256, 3)[label]
    shown = label != 0 if where is None else where
    ignored = shown & (label == IGNORE)
    mixed = (image * (1 - opacity) + colours * opacity).astype(np.uint8)
    out = np.where((shown & ~ignored)[..., None], mixed, image)
    rows, columns = np.indices(label.shape)
    out[ignored & ((rows + columns) % 6 < 2)] = HATCH
    return out


def difference_picture(image: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where two labels differ, in the colours of the first, white where that is background; the rest of the image is
    grey. Arguments as :func:`label_picture`.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    faint = np.repeat((128 + grey // 4)[..., None], 3, axis=2)
    differs = first != second
    out = label_picture(faint, first, opacity=1.0, where=differs)
    out[differs & (first == 0)] = HATCH
    return out


def heat_picture(values: np.ndarray) -> np.ndarray:
    """A map (H, W) of values in [0, 1] in colours from blue, 0, to yellow, 1; (H, W, 3) uint8 RGB."""
    levels = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def strip_columns(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]],
    labels: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray] | None = None,
    height: int = 200,
) -> dict[str, np.ndarray]:
    """The pictures of a strip by title: image, boxes, maps, labels, and, after the first two labels, where these
    differ.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: XYXY in pixels.
        labels: title to (H, W) uint8, in the order of the columns.
        maps: title to (H, W) values in [0, 1].
        height: pictures are enlarged by a whole number towards this many pixels; one of more than :data:`LONGEST` is
            made smaller.

    Returns:
        Title to picture, uint8 RGB, all of one size.
    """
    maps = maps or {}
    share = LONGEST / max(image.shape[:2])
    if share < 1:
        size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        labels = {
            k: cv2.resize(v, size, interpolation=cv2.INTER_NEAREST) for k, v in labels.items()
        }
        maps = {k: cv2.resize(v, size, interpolation=cv2.INTER_AREA) for k, v in maps.items()}
        boxes = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * share).tolist()
    columns = {"image": image, "boxes": overlay(image, boxes=boxes)}
    columns |= {name: heat_picture(values) for name, values in maps.items()}
    names = list(labels)
    for number, name in enumerate(names, start=1):
        columns[name] = label_picture(image, labels[name])
        if number == 2:
            pair = labels[names[0]], labels[names[1]]
            columns["disagreement"] = difference_picture(image, *pair)
    scale = max(1, round(height / image.shape[0]))
    block = np.ones((scale, scale, 1), np.uint8)
    return {title: np.kron(picture, block) for title, picture in columns.items()}


MapMaker = Callable[[dict[str, Any], np.ndarray], Mapping[str, np.ndarray]]
"""Titles and maps, (H, W) in [0, 1], of an image entry of a source and its pixels."""


@dataclass(frozen=True)
class WrittenStrips:
    """What :func:`write_strips` wrote.

    Args:
        paths: the files.
        unreadable: what was wrong with images, a line each; they have no strip.
    """

    paths: list[Path]
    unreadable: list[str]


def write_strips(
    source: CocoSource,
    folders: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    count: int = 0,
    maps: MapMaker | None = None,
) -> WrittenStrips:
    """Writes the strips of some images of a source as PNG files. Everything but pixels is checked first.

    Args:
        source: images and their boxes.
        folders: title to folder of label maps.
        output: folder that the files go to, under the images' names.
        count: number of images, spread evenly over the source; 0 = all.
        maps: what else to show, before the labels.

    Raises:
        DataError: a label is missing, cannot be read or has not its image's size; two strips would have one name, or
            one would take the place of an image or a label.
    """
    entries = pick_images(source, count) if count else source.images
    part = replace(source, images=entries)
    for folder in folders.values():
        check_label_files(part, folder)
    places = _places(part, folders, output)
    remove_torn(*places)
    written = WrittenStrips([], [])
    for path, entry in zip(places, entries, strict=True):
        size = entry["height"], entry["width"]
        try:
            image = read_image(source.path_of(entry), *size)
        except UnreadableImageError as error:
            written.unreadable.append(str(error))
            continue
        labels = {
            title: read_label(label_path(folder, "", entry["file_name"]), *size)
            for title, folder in folders.items()
        }
        annotations = [a for a in source.annotations_of(entry["id"]) if "bbox" in a]
        boxes = [xywh_to_xyxy(a["bbox"]).tolist() for a in annotations]
        columns = strip_columns(image, boxes, labels, maps(entry, image) if maps else None)
        text = PngInfo()
        text.add_text(TITLES, ", ".join(columns))
        strip = Image.fromarray(contact_sheet([list(columns.values())], list(columns)))
        with atomic_writer(path, "wb") as stream:
            strip.save(stream, format="PNG", pnginfo=text)
        written.paths.append(path)
    return written


def _places(
    source: CocoSource,
    folders: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
) -> list[Path]:
    """Where the strips of all images of a source go.

    Raises:
        DataError: two would have one name, or one that of an image or a label of the source.
    """
    owners: dict[Path, str] = {}
    given: set[str] = set()
    for entry in source.images:
        name = entry["file_name"]
        path = label_path(output, "", name)
        if path in owners:
            raise DataError(
                f"{source.json_file}: images {owners[path]!r} and {name!r} would have the same strip; their names must "
                "differ in more than the suffix"
            )
        owners[path] = name
        labels = (label_path(folder, "", name) for folder in folders.values())
        given.update(map(os.path.realpath, (source.path_of(entry), *map(str, labels))))
    for path, name in owners.items():
        if os.path.realpath(path) in given:
            raise DataError(
                f"{path}: the strip of image {name!r} would take the place of an image or a label; write the strips "
                "into another folder"
            )
    return list(owners)
