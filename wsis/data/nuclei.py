"""The 2018 Data Science Bowl's stage 1 training set (BBBC038v1) to COCO records.

One folder per image: `<image id>/images/<one>.png`, usually RGBA, and `<image id>/masks/*.png`, one
per nucleus. Masks are kept as drawn: where two overlap by mistake, both keep the pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from wsis.data.images import read_image
from wsis.data.prepare import image_size, mask_annotation, require_folder
from wsis.errors import DataError, counted
from wsis.structures.proxy_file import atomic_writer

CATEGORIES = [{"id": 1, "name": "nucleus", "supercategory": "cell"}]


@dataclass(frozen=True)
class NucleiRecord:
    """One converted image.

    Attributes:
        image (dict): COCO image without `id`.
        annotations (list): COCO annotations without `id` and `image_id`, in the masks' name order.
        empty_masks (int): masks without a pixel, left out.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    empty_masks: int


def list_images(source: Path, max_side: int) -> list[Path]:
    """The image folders.

    Args:
        source: the official `stage1_train`.
        max_side: leave out images with a longer side, in pixels; 0 keeps all.

    Returns:
        Folders sorted by image id.

    Raises:
        DataError: no such folder, nothing in it, a folder without its one image, or a damaged one.
    """
    require_folder(source, "stage1_train of the 2018 Data Science Bowl, unpacked")
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    if not folders:
        raise DataError(f"{source}: no image folders, expected <image id>/images/*.png")
    if max_side:
        folders = [f for f in folders if max(image_size(_image_of(f))) <= max_side]
        if not folders:
            raise DataError(f"{source}: no image has sides of at most {max_side} pixels")
    return folders


def split(names: list[str], val_fraction: float, seed: int) -> set[str]:
    """The names that go to val: the first ones in the order of SHA-256 of `seed/name`.

    Args:
        names: image ids.
        val_fraction: share of val, in [0, 1); rounded to whole images.
        seed: another seed, another split.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return set(order[: round(val_fraction * len(order))])


def convert_image(folder: Path, images: Path) -> NucleiRecord:
    """Converts one image folder and writes its picture as RGB PNG.

    Args:
        folder: `<image id>`.
        images: where `<image id>.png` is written.

    Raises:
        DataError: image or masks folder missing, a damaged file, a mask of another size.
    """
    picture = _image_of(folder)
    height, width = image_size(picture)
    pixels = read_image(picture, height, width)
    annotations, empty = [], 0
    masks = require_folder(folder / "masks", "one PNG per nucleus")
    for path in sorted(masks.glob("*.png")):
        mask = read_image(path, height, width).max(axis=2) > 0
        annotation = mask_annotation(mask, 1)
        if annotation is None:
            empty += 1
        else:
            annotations.append(annotation)
    file_name = f"{folder.name}.png"
    with atomic_writer(images / file_name, "wb") as stream:
        Image.fromarray(pixels).save(stream, format="PNG")
    image = {"file_name": file_name, "height": height, "width": width}
    return NucleiRecord(image, annotations, empty)


def _image_of(folder: Path) -> Path:
    found = sorted(require_folder(folder / "images", "the image as PNG").glob("*.png"))
    if len(found) != 1:
        raise DataError(
            f"{folder / 'images'}: found {counted(len(found), 'PNG file')}, expected one"
        )
    return found[0]
