"""Masks as polygons in the forms of labelling tools, and what is left of them when these files are read again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
import yaml

from wsis.data.formats.labelme import parse_shapes, stated_size
from wsis.data.formats.mask_set import MaskSet, Outlines
from wsis.data.formats.records import Tally, grouped, segmentation_of
from wsis.data.formats.yolo import parse_labels
from wsis.data.source import Annotation, Image
from wsis.errors import ConfigError
from wsis.structures.polygons import flat, joined
from wsis.structures.proxy_file import read_json, write_json_atomic
from wsis.structures.rle import RLE, rle_area, segmentation_to_rle

LABELME_VERSION = "5.5.0"
"""Of the form that is written; LabelMe warns of files of another major version."""


def write_coco_polygons(
    masks: MaskSet, output: Path, outlines: Outlines, images: Path | None
) -> None:
    """A COCO JSON file whose masks are polygons; everything else stays as it is.

    Args:
        masks: what to write.
        output: the file.
        outlines: how masks become rings.
        images: not needed.
    """

    def polygons(annotation: Annotation) -> Annotation:
        kept = {k: v for k, v in annotation.items() if k != "ignore_segmentation"}
        if len(kept) < len(annotation):
            where = f"annotation {annotation['id']}"
            outlines.notes.add("regions to be ignored, which are not written", where)
        rings = outlines(annotation)
        area = rle_area(annotation["segmentation"])
        return kept | {"segmentation": [flat(ring) for ring in rings], "area": area}

    source = masks.source
    document = {
        "info": source.info,
        "images": source.images,
        "categories": source.categories,
        "annotations": [polygons(annotation) for annotation in masks.annotations],
    }
    write_json_atomic(output, document)


def write_yolo(masks: MaskSet, output: Path, outlines: Outlines, images: Path | None) -> None:
    """``data.yaml`` and one text file per image, a line per mask.

    Args:
        masks: what to write.
        output: a folder that is new or empty.
        outlines: how masks become rings.
        images: their folder, to which ``output/images`` becomes a link; None = no link.
    """
    names, numbers = masks.source.class_names, masks.source.id_to_contiguous
    with _new_folder(output) as folder:
        for image, annotations in masks.by_image():
            lines = []
            for annotation in annotations:
                rings = outlines(annotation)
                if len(rings) > 1:
                    text = "masks of several parts, which were strung together by a seam"
                    outlines.notes.add(text, f"annotation {annotation['id']}")
                shares = joined(rings) / (image["width"], image["height"])
                numbers_of_ring = " ".join(f"{v:.8g}" for v in shares.ravel())
                lines.append(f"{numbers[annotation['category_id']]} {numbers_of_ring}\n")
                outlines.notes.add(
                    "ids and scores, which YOLO has no place for", f"annotation {annotation['id']}"
                )
            path = _beside(folder / "labels", image, ".txt")
            path.write_text("".join(lines), encoding="utf-8")
        document = {"train": "images", "val": "images", "names": dict(enumerate(names))}
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        (folder / "data.yaml").write_text(text, encoding="utf-8")
        if images is not None:
            (folder / "images").symlink_to(os.path.relpath(images.resolve(), output.resolve()))


def write_labelme(masks: MaskSet, output: Path, outlines: Outlines, images: Path | None) -> None:
    """One JSON file per image, with a polygon for each part of a mask; parts of one mask are a group.

    Args:
        masks: what to write.
        output: a folder that is new or empty.
        outlines: how masks become rings.
        images: their folder, which the files refer to; None = the files are to be put beside the images.
    """
    names = {category["id"]: category["name"] for category in masks.source.categories}
    with _new_folder(output) as folder:
        for image, annotations in masks.by_image():
            shapes = []
            for a in annotations:
                rings = outlines(a)
                score = f", score {a['score']:g}" if "score" in a else ""
                shape = {
                    "label": names[a["category_id"]],
                    "group_id": a["id"] if len(rings) > 1 else None,
                    "description": f"id {a['id']}{score}",
                    "shape_type": "polygon",
                    "flags": {},
                }
                if len(rings) > 1:
                    text = "masks of several parts, which were written as one group of shapes"
                    outlines.notes.add(text, f"annotation {a['id']}")
                pairs = [np.reshape(flat(ring), (-1, 2)).tolist() for ring in rings]
                shapes += [{**shape, "points": points} for points in pairs]
            path = _beside(folder, image, ".json")
            name = Path(image["file_name"]).name
            if images is not None:
                final = (output / path.relative_to(folder)).resolve().parent
                name = Path(
                    os.path.relpath((images / image["file_name"]).resolve(), final)
                ).as_posix()
            document = {
                "version": LABELME_VERSION,
                "flags": {},
                "shapes": shapes,
                "imagePath": name,
                "imageData": None,
                "imageHeight": image["height"],
                "imageWidth": image["width"],
            }
            path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")


def read_coco_polygons(masks: MaskSet, output: Path) -> Iterator[RLE]:
    """The masks that :func:`write_coco_polygons` has written, in its order."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in masks.source.images}
    for annotation in read_json(output)["annotations"]:
        yield segmentation_to_rle(annotation["segmentation"], *sizes[annotation["image_id"]])


def read_yolo_again(masks: MaskSet, output: Path) -> Iterator[RLE]:
    """The masks that :func:`write_yolo` has written, image by image."""
    names = masks.source.class_names
    for image in masks.source.images:
        size = image["height"], image["width"]
        path = _beside(output / "labels", image, ".txt")
        for _, item in parse_labels(path, size, names, Tally()):
            yield segmentation_to_rle(segmentation_of(item.parts, size), *size)


def read_labelme_again(masks: MaskSet, output: Path) -> Iterator[RLE]:
    """The masks that :func:`write_labelme` has written, image by image."""
    for image in masks.source.images:
        path = _beside(output, image, ".json")
        document = read_json(path)
        size = stated_size(document) or (0, 0)
        items = [item for _, item in parse_shapes(document["shapes"], path, size, Tally())]
        for item in grouped(items):
            yield segmentation_to_rle(segmentation_of(item.parts, size), *size)


@dataclass(frozen=True)
class Form:
    """A form that masks can be written in.

    Args:
        write, read: the two directions.
        in_order: what is read comes in the order of the masks, not image by image.
    """

    write: Callable[[MaskSet, Path, Outlines, Path | None], None]
    read: Callable[[MaskSet, Path], Iterator[RLE]]
    in_order: bool = False


FORMS = {
    "coco-polygons": Form(write_coco_polygons, read_coco_polygons, in_order=True),
    "yolo-seg": Form(write_yolo, read_yolo_again),
    "labelme": Form(write_labelme, read_labelme_again),
}


def round_trip(masks: MaskSet, form: Form, output: Path) -> np.ndarray:
    """IoU of each mask with what the written files say, in the order that the form has them."""
    expected = masks.annotations
    if not form.in_order:
        expected = [a for _, annotations in masks.by_image() for a in annotations]
    pairs = zip(expected, form.read(masks, output), strict=True)
    found = [coco_mask.iou([code], [a["segmentation"]], [0]).item() for a, code in pairs]
    return np.array(found)


def _beside(folder: Path, image: Image, suffix: str) -> Path:
    """The file of an image; its folder is made."""
    path = (folder / image["file_name"]).with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder that appears whole at ``output`` when the block ends, and not at all if the block raises.

    Raises:
        ConfigError: there is something at ``output`` already, which may be somebody's work.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ConfigError(
            f"--output: {output} holds files already, expected a new or empty folder: what was corrected in it would "
            "be lost"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield folder
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
        os.replace(folder, output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
