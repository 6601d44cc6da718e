"""Writing the `shapes` dataset to disk: PNG images and COCO JSON files, JSON last."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from wsis.data.prepare import boxes_only, mask_annotation, number_annotations, parallel_map
from wsis.data.shapes.forms import OBJECT_FORMS
from wsis.data.shapes.scene import draw_scene
from wsis.errors import ConfigError, DataError
from wsis.structures.proxy_file import read_json, write_json_atomic

logger = logging.getLogger(__name__)

GENERATOR_VERSION = 1  # raise it with every change that moves a pixel
CATEGORIES = [{"id": i, "name": name} for i, name in enumerate(OBJECT_FORMS, start=1)]
SALIENT_CATEGORIES = [{"id": 1, "name": "object"}]
MIN_SIZE = 64

# JSON file without suffix -> (split, whether it carries masks), in the order they are written.
_FILES = {
    "shapes_train_boxes": ("train", False),
    "shapes_train": ("train", True),
    "shapes_val": ("val", True),
    "shapes_salient": ("salient", True),
}


@dataclass(frozen=True)
class ShapesSpec:
    """What determines the dataset, byte for byte.

    Attributes:
        size: image side in pixels, at least `MIN_SIZE`.
        train: number of training images.
        val: number of validation images.
        salient: number of images of one centred object.
        seed: of the whole dataset, >= 0; no image depends on the number of the others.
    """

    size: int = 192
    train: int = 600
    val: int = 150
    salient: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"size": MIN_SIZE, "train": 1, "val": 1, "salient": 1, "seed": 0}
        for name, limit in lowest.items():
            if getattr(self, name) < limit:
                raise ConfigError(
                    f"shapes {name}: found {getattr(self, name)}, expected {limit} or more"
                )


def _json_path(output: Path, name: str) -> Path:
    return output / "annotations" / f"{name}.json"


def _is_complete(output: Path, spec: ShapesSpec) -> bool:
    """Whether `output` already holds exactly this dataset.

    Raises:
        DataError: a JSON file of another dataset, or of other arguments, is there.
    """
    expected = _info(spec)["shapes"]
    there = 0
    for path in (_json_path(output, name) for name in _FILES):
        if not path.exists():
            continue
        document = read_json(path)
        info = document.get("info") if isinstance(document, dict) else None
        found = info.get("shapes") if isinstance(info, dict) else None
        if found != expected:
            raise DataError(
                f"{path}: made with {found}, expected {expected}; use --force to redraw"
            )
        there += 1
    return there == len(_FILES)


def _info(spec: ShapesSpec) -> dict[str, Any]:
    return {
        "description": "wsis shapes, a procedural dataset",
        "shapes": {"version": GENERATOR_VERSION, **asdict(spec)},
    }


def _file_name(split: str, index: int) -> str:
    return f"{split}/{index + 1:06d}.png"


def _write_image(index: int, split: str, spec: ShapesSpec, folder: Path) -> list[dict[str, Any]]:
    """Draw and save one image; return its annotations, without ids."""
    scene = draw_scene(spec.seed, split, index, spec.size)
    path = folder / _file_name(split, index)
    if not cv2.imwrite(str(path), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)):
        raise DataError(f"{path}: cannot be written")
    pairs = zip(scene.masks, scene.classes, strict=True)
    return [a for mask, kind in pairs if (a := mask_annotation(mask, kind + 1))]


def _write_split(split: str, spec: ShapesSpec, folder: Path, workers: int) -> dict[str, Any]:
    """Draw and save the images of one split; return its COCO document."""
    count = getattr(spec, split)
    try:
        (folder / split).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder / split}: cannot be made ({error.strerror})") from error
    write = partial(_write_image, split=split, spec=spec, folder=folder)
    drawn = parallel_map(write, range(count), workers, split)
    records = (
        {
            "id": index + 1,
            "file_name": _file_name(split, index),
            "height": spec.size,
            "width": spec.size,
        }
        for index in range(count)
    )
    images, annotations = number_annotations(zip(records, drawn, strict=True))
    logger.info("%s: %d images, %d objects", split, len(images), len(annotations))
    return {
        "info": _info(spec),
        "images": images,
        "annotations": annotations,
        "categories": SALIENT_CATEGORIES if split == "salient" else CATEGORIES,
    }


def prepare_shapes(
    output: str | os.PathLike[str], spec: ShapesSpec, workers: int = 1, force: bool = False
) -> bool:
    """Write the dataset, unless it is already there.

    The JSON files come after all images, each at once, so a run that was killed is never taken
    for a finished one; running it again finishes it.

    Args:
        output: the dataset's folder; gets `images/{train,val,salient}/` and `annotations/`.
        spec: what to draw.
        workers: number of drawing processes; the result does not depend on it.
        force: replace a dataset made with other arguments.

    Returns:
        True if it was written, False if it was there.

    Raises:
        DataError: `output` holds a dataset of other arguments, or cannot be written.
    """
    root = Path(output)
    if force:
        for name in _FILES:
            _json_path(root, name).unlink(missing_ok=True)
    if _is_complete(root, spec):
        logger.info("%s: already there", root)
        return False
    documents = {
        split: _write_split(split, spec, root / "images", workers)
        for split in ("train", "val", "salient")
    }
    for name, (split, with_masks) in _FILES.items():
        document = documents[split] if with_masks else boxes_only(documents[split])
        write_json_atomic(_json_path(root, name), document)
    return True
