"""The picture of one mask on the report page: the image around its box, with masks that a browser draws over it."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as coco_mask
from PIL import Image

from wsis.data.images import UnreadableImageError, read_image
from wsis.data.source import CocoSource
from wsis.errors import DataError, counted
from wsis.evaluation.proxy_pairs import MaskPairs
from wsis.report.strip import TITLES, StripMaker
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.pseudo_labels import label_path
from wsis.structures.rle import RLE, decode_mask, encode_mask

PICTURE_SIDE = 256
"""Pixels of a picture's longer side at most; a smaller crop is kept as it is."""
MARGIN = 0.2
"""What is shown around box and masks on each side, as share of the longer side of their common box."""
STRIP_WIDTH = 1600
"""Pixels of a strip's width at most."""
QUALITY = 70
"""Of the WebP code, 0 to 100."""

Window = tuple[slice, slice]
Picture = dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """Pictures of N masks.

    Args:
        items: N records of :func:`make_picture`; None where the image could not be read.
        unreadable: what was wrong, a line per image.
    """

    items: list[Picture | None]
    unreadable: list[str]


def crop_window(boxes: Sequence[np.ndarray], height: int, width: int) -> Window:
    """The part of an image to show for some boxes: a square around all of them, as far as the image goes.

    Args:
        boxes: (4,) XYXY each, at least one.
        height, width: size of the image in pixels.

    Returns:
        Rows and columns, never empty. The square is :data:`MARGIN` wider on each side than the longer side of the
        boxes' common box; at the image's edge it is moved inwards, and cut where the image is smaller.
    """
    corners = np.stack(boxes)
    low = np.minimum(corners[:, :2].min(axis=0), (width - 1, height - 1)).clip(0)
    high = np.maximum(corners[:, 2:].max(axis=0).clip(max=(width, height)), low + 1)
    side = math.ceil((high - low).max() * (1 + 2 * MARGIN)) + 2

    def span(centre: float, size: int) -> slice:
        length = min(side, size)
        start = min(max(round(centre - length / 2), 0), size - length)
        return slice(start, start + length)

    centre_x, centre_y = (low + high) / 2
    return span(centre_y, height), span(centre_x, width)


def make_picture(
    image: np.ndarray, box: np.ndarray, masks: dict[str, RLE | None], window: Window
) -> Picture:
    """Cuts out a window and makes it small enough for a page.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) XYXY in pixels of the image.
        masks: layer name to the code of a mask of the whole image, or None.
        window: rows and columns to show.

    Returns:
        Ready for JSON: ``width``, ``height`` of the picture in pixels, ``box`` XYXY in its pixels, ``webp`` (base64),
        and for each layer the compressed counts of its mask at the picture's size, or None.
    """
    rows, columns = window
    height, width = rows.stop - rows.start, columns.stop - columns.start
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    record: Picture = {"width": size[0], "height": size[1]}
    stretch = np.array([size[0] / width, size[1] / height] * 2)
    origin = np.array([columns.start, rows.start] * 2)
    record["box"] = ((np.asarray(box) - origin) * stretch).round(1).tolist()
    record["webp"] = _webp(cv2.resize(image[rows, columns], size, interpolation=cv2.INTER_AREA))
    for layer, code in masks.items():
        record[layer] = None
        if code is not None:
            cut = decode_mask(code)[rows, columns].astype(np.uint8) * 255
            small = cv2.resize(cut, size, interpolation=cv2.INTER_AREA) >= 128
            record[layer] = encode_mask(small)["counts"]
    return record


def _webp(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=QUALITY, method=1)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def make_pictures(
    source: CocoSource,
    pairs: MaskPairs,
    chosen: np.ndarray,
    advance: Callable[[], object] | None = None,
    threads: int = 4,
) -> Pictures:
    """Pictures of some masks of a file; each image is read once.

    Args:
        source: the file, with the folder of its images.
        pairs: its masks.
        chosen: (N,) which of them.
        advance: called after each image.
        threads: that read images at a time.

    Raises:
        DataError: an image has not the size that the file says.
    """
    image_of = {a["id"]: a["image_id"] for a in source.annotations}
    images = {image["id"]: image for image in source.images}
    places: dict[Any, list[int]] = {}
    for place, index in enumerate(chosen):
        places.setdefault(image_of[int(pairs.ids[index])], []).append(place)
    items: list[Picture | None] = [None] * len(chosen)
    unreadable = []

    def read_and_cut(image_id: Any) -> str | None:
        image = images[image_id]
        try:
            pixels = read_image(source.path_of(image), image["height"], image["width"])
        except UnreadableImageError as error:
            return str(error)
        for place in places[image_id]:
            items[place] = _picture_of(pixels, pairs, int(chosen[place]))
        return None

    with ThreadPoolExecutor(max_workers=threads) as pool:
        for problem in pool.map(read_and_cut, places):
            if problem is not None:
                unreadable.append(problem)
            if advance is not None:
                advance()
    return Pictures(items, unreadable)


def _picture_of(pixels: np.ndarray, pairs: MaskPairs, index: int) -> Picture:
    masks = {
        "mask": pairs.masks[index],
        "ignore": pairs.ignored[index],
        "truth": pairs.true_masks[index],
    }
    there = [code for code in masks.values() if code is not None]
    tight = xywh_to_xyxy(coco_mask.toBbox(there).reshape(-1, 4))
    window = crop_window([pairs.boxes[index], *tight], *pixels.shape[:2])
    return make_picture(pixels, pairs.boxes[index], masks, window)


def read_strips(
    folder: str | os.PathLike[str], file_names: Sequence[str], threads: int = 4
) -> list[Picture | None]:
    """The strips that :func:`wsis.report.strip.write_strips` has written, small enough for a page.

    Args:
        folder: of the strips.
        file_names: of images, as their JSON has them.
        threads: that read strips at a time.

    Returns:
        For each image None, if it has no strip, or ready for JSON: ``width``, ``height`` in pixels, ``webp`` (base64),
        ``titles`` of its columns.

    Raises:
        DataError: a strip cannot be read, or no image has one.
    """
    paths = [label_path(folder, "", name) for name in file_names]
    with ThreadPoolExecutor(max_workers=threads) as pool:
        records = list(pool.map(_read_strip, paths))
    if paths and not any(records):
        raise DataError(
            f"{folder}: of the {counted(len(paths), 'image')} none has a strip here (the first: {paths[0]}), "
            "expected the folder that tools/label_strips.py wrote for them"
        )
    return records


def _read_strip(path: os.PathLike[str]) -> Picture | None:
    if not os.path.isfile(path):
        return None
    try:
        with Image.open(path) as opened:
            titles = opened.info.get(TITLES, "")
            strip = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise DataError(f"{path}: cannot be read as a strip ({reason})") from error
    return _strip_record(strip, titles)


def draw_strips(
    maker: StripMaker, entries: Sequence[dict[str, Any]], threads: int = 4
) -> list[Picture | None]:
    """Strips made for a page, see :func:`read_strips`; None of an image that cannot be read.

    Args:
        maker: of the strips.
        entries: images of its source.
        threads: that draw at a time.

    Raises:
        ConfigError, DataError: see :meth:`wsis.report.strip.StripMaker.check`.
    """
    maker.check(entries)

    def draw(entry: dict[str, Any]) -> Picture | None:
        try:
            image = read_image(maker.source.path_of(entry), entry["height"], entry["width"])
        except UnreadableImageError:
            return None
        strip, titles = maker(entry, image)
        return _strip_record(Image.fromarray(strip), ", ".join(titles))

    with ThreadPoolExecutor(max_workers=threads) as pool:
        return list(pool.map(draw, entries))


def _strip_record(strip: Image.Image, titles: str) -> Picture:
    strip.thumbnail((STRIP_WIDTH, STRIP_WIDTH), Image.Resampling.BOX)
    width, height = strip.size
    webp = _webp(np.asarray(strip))
    return {"width": width, "height": height, "webp": webp, "titles": titles}
