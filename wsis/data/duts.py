"""DUTS-TR, salient object detection, to COCO records of its images of a single object.

`DUTS-TR-Image/<name>.jpg` and `DUTS-TR-Mask/<name>.png`; a mask is 255 on all salient objects of its image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wsis.data.images import read_image
from wsis.data.prepare import image_size, mask_annotation, require_folder
from wsis.errors import DataError

CATEGORIES = [{"id": 1, "name": "object"}]
FOREGROUND = 128
"""The least grey value of an object's pixel."""


@dataclass(frozen=True)
class DutsRecord:
    """One image.

    Attributes:
        image (dict): COCO image without `id`.
        annotations (list): one COCO annotation without `id` and `image_id`; none for a mask without a pixel.
        largest_share (float): of the mask's pixels in its largest connected part.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    largest_share: float


def list_pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Every image with its mask, by name.

    Raises:
        DataError: a folder is missing, there is no image, or one without a mask.
    """
    require_folder(images, "DUTS-TR-Image of DUTS-TR, unpacked")
    require_folder(masks, "DUTS-TR-Mask of DUTS-TR, unpacked")
    pairs = [(path, masks / f"{path.stem}.png") for path in sorted(images.glob("*.jpg"))]
    if not pairs:
        raise DataError(f"{images}: found no *.jpg, expected the images of DUTS-TR")
    for _, mask in pairs:
        if not mask.is_file():
            raise DataError(f"{mask}: no such mask")
    return pairs


def convert_pair(pair: tuple[Path, Path]) -> DutsRecord:
    """Converts one image's mask; the image itself stays where it is.

    Args:
        pair: image and mask.

    Raises:
        DataError: a damaged file, or a mask of another size.
    """
    path, mask_path = pair
    height, width = image_size(path)
    mask = read_image(mask_path, height, width)[..., 0] >= FOREGROUND
    image = {"file_name": path.name, "height": height, "width": width}
    annotation = mask_annotation(mask, 1)
    if annotation is None:
        return DutsRecord(image, [], 0.0)
    return DutsRecord(image, [annotation], _largest_share(mask))


def _largest_share(mask: np.ndarray) -> float:
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    counts = np.bincount(labels.ravel())[1:]
    return float(counts.max() / counts.sum())
