"""One strip per image: the image, its boxes, maps and labels made of it, where labels differ, a prediction."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from wsis.data.images import read_image
from wsis.data.semantic import read_label
from wsis.data.source import CocoSource
from wsis.report.comparison import pick_images
from wsis.report.overlay import contact_sheet, overlay
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import atomic_writer
from wsis.structures.pseudo_labels import IGNORE, label_path, voc_palette

HATCH = (255, 255, 255)
"""Colour of what is ignored."""


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


def label_strip(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]],
    labels: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray] | None = None,
    height: int = 200,
) -> np.ndarray:
    """The strip of one image: image, boxes, maps, labels, and, after the first two labels, where these differ.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: XYXY in pixels.
        labels: title to (H, W) uint8, in the order of the columns.
        maps: title to (H, W) values in [0, 1].
        height: pictures are enlarged by a whole number towards this many pixels.

    Returns:
        One picture, uint8 RGB.
    """
    columns = {"image": image, "boxes": overlay(image, boxes=boxes)}
    columns |= {name: heat_picture(values) for name, values in (maps or {}).items()}
    names = list(labels)
    for number, name in enumerate(names, start=1):
        columns[name] = label_picture(image, labels[name])
        if number == 2:
            pair = labels[names[0]], labels[names[1]]
            columns["disagreement"] = difference_picture(image, *pair)
    scale = max(1, round(height / image.shape[0]))
    enlarged = [np.kron(p, np.ones((scale, scale, 1), np.uint8)) for p in columns.values()]
    return contact_sheet([enlarged], list(columns))


MapMaker = Callable[[dict[str, Any], np.ndarray], Mapping[str, np.ndarray]]
"""Titles and maps, (H, W) in [0, 1], of an image entry of a source and its pixels."""


def write_strips(
    source: CocoSource,
    folders: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
    count: int,
    maps: MapMaker | None = None,
) -> list[Path]:
    """Writes the strips of some images of a source as PNG files.

    Args:
        source: images and their boxes.
        folders: title to folder of label maps.
        output: folder that the files go to, under the images' names.
        count: number of images, spread evenly over the source.
        maps: what else to show, before the labels.

    Returns:
        The files.

    Raises:
        DataError: an image or a label cannot be read, or they differ in size.
    """
    paths = []
    for entry in pick_images(source, count):
        size = entry["height"], entry["width"]
        image = read_image(source.path_of(entry), *size)
        labels = {
            title: read_label(label_path(folder, "", entry["file_name"]), *size)
            for title, folder in folders.items()
        }
        annotations = [a for a in source.annotations_of(entry["id"]) if "bbox" in a]
        boxes = [xywh_to_xyxy(a["bbox"]).tolist() for a in annotations]
        strip = label_strip(image, boxes, labels, maps(entry, image) if maps else None)
        paths.append(label_path(output, "", entry["file_name"]))
        with atomic_writer(paths[-1], "wb") as stream:
            Image.fromarray(strip).save(stream, format="PNG")
    return paths
