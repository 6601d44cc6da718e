"""Writing the `shapes` dataset to disk: PNG images and COCO JSON files, JSON last."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from wsis.data.shapes.forms import OBJECT_FORMS
from wsis.data.shapes.scene import draw_scene
from wsis.errors import ConfigError, DataError
from wsis.structures.boxes import mask_to_box
from wsis.structures.proxy_file import read_json, write_json_atomic
from wsis.structures.rle import encode_mask

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


def _write_image(split: str, index: int, spec: ShapesSpec, output: Path) -> list[dict[str, Any]]:
    """Draw and save one image; return its annotations without ids."""
    scene = draw_scene(spec.seed, split, index, spec.size)
    path = output / "images" / _file_name(split, index)
    if not cv2.imwrite(str(path), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)):
        raise DataError(f"{path}: cannot be written")
    annotations = []
    for mask, kind in zip(scene.masks, scene.classes, strict=True):
        box = mask_to_box(mask)
        if box is None:
            raise AssertionError("a scene never holds an invisible object")
        x0, y0, x1, y1 = box.tolist()
        annotations.append(
            {
                "image_id": index + 1,
                "category_id": kind + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": encode_mask(mask),
            }
        )
    return annotations


def _file_name(split: str, index: int) -> str:
    return f"{split}/{index + 1:06d}.png"


def _without_mask(annotation: dict[str, Any]) -> dict[str, Any]:
    """An annotation that tells no more than its box; `area`, which COCO demands, is the box's."""
    boxed = {key: value for key, value in annotation.items() if key != "segmentation"}
    boxed["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    return boxed


_Mapper = Callable[..., Iterable[list[dict[str, Any]]]]


@contextlib.contextmanager
def _mapper(workers: int) -> Iterator[_Mapper]:
    """`map` in this process or over several."""
    if workers <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, context, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield partial(pool.map, chunksize=16)


def _document(
    split: str, annotations: list[dict[str, Any]], count: int, spec: ShapesSpec
) -> dict[str, Any]:
    images = [
        {
            "id": index + 1,
            "file_name": _file_name(split, index),
            "height": spec.size,
            "width": spec.size,
        }
        for index in range(count)
    ]
    categories = SALIENT_CATEGORIES if split == "salient" else CATEGORIES
    return {
        "info": _info(spec),
        "images": images,
        "categories": categories,
        "annotations": annotations,
    }


def prepare_shapes(
    output: str | os.PathLike[str],
    spec: ShapesSpec,
    workers: int = 1,
    force: bool = False,
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
    by_split: dict[str, list[dict[str, Any]]] = {}
    with _mapper(workers) as run:
        for split in ("train", "val", "salient"):
            try:
                (root / "images" / split).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"{error.filename}: cannot be made ({error.strerror})") from error
            draw = partial(_write_image, split, spec=spec, output=root)
            annotations = [a for image in run(draw, range(getattr(spec, split))) for a in image]
            by_split[split] = [{"id": i, **a} for i, a in enumerate(annotations, start=1)]
            logger.info("%s: %d images, %d objects", split, getattr(spec, split), len(annotations))
    for name, (split, with_masks) in _FILES.items():
        annotations = by_split[split]
        if not with_masks:
            annotations = [_without_mask(annotation) for annotation in annotations]
        document = _document(split, annotations, getattr(spec, split), spec)
        write_json_atomic(_json_path(root, name), document)
    return True
