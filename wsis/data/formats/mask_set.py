"""The masks of a file, and how they become outlines."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from wsis.data.external_masks import read_masks
from wsis.data.formats.records import Tally
from wsis.data.source import (
    Annotation,
    CocoSource,
    Image,
    check_document,
    load_source,
    read_document,
)
from wsis.data.values import leaves_root
from wsis.errors import DataError
from wsis.structures.polygons import joined, mask_to_parts, signed_area
from wsis.structures.rle import read_mask, rle_area


@dataclass(frozen=True)
class MaskSet:
    """Masks and what they belong to.

    Args:
        source: images and categories.
        annotations: those with a mask, whose ``segmentation`` is a code.
        left_out: annotations that have none, by cause.
    """

    source: CocoSource
    annotations: list[Annotation]
    left_out: Tally

    def by_image(self) -> Iterator[tuple[Image, list[Annotation]]]:
        """Every image with its annotations."""
        found = defaultdict(list)
        for annotation in self.annotations:
            found[annotation["image_id"]].append(annotation)
        for image in self.source.images:
            yield image, found[image["id"]]


@dataclass
class Outlines:
    """How masks become rings, and how often a form could not say what a mask is.

    Args:
        tolerance: see :func:`wsis.structures.polygons.mask_to_parts`.
        fill_holes: fill holes instead of cutting them open.
        notes: what was changed, by cause.
    """

    tolerance: float = 0.0
    fill_holes: bool = False
    notes: Tally = field(default_factory=Tally)

    def __call__(self, annotation: Annotation) -> list[np.ndarray]:
        """One ring per part of an annotation's mask."""
        where = f"annotation {annotation['id']}"
        parts = mask_to_parts(annotation["segmentation"], self.tolerance)
        holes = [hole for part in parts for hole in part.holes]
        if holes and self.fill_holes:
            pixels = round(sum(abs(signed_area(hole)) for hole in holes))
            self.notes.add("masks with holes, which were filled", where)
            self.notes.add("pixels in holes that were filled", where, pixels)
            return [part.outline for part in parts]
        if holes:
            self.notes.add("masks with holes, which were cut open by a seam", where)
        return [joined([part.outline, *part.holes]) for part in parts]


def read_mask_set(path: str, json_file: str | None = None) -> MaskSet:
    """The masks of a proxy-mask file, of any other COCO JSON, or of a COCO list of results.

    Args:
        path: the file.
        json_file: the COCO JSON that a list of results is about.

    Raises:
        DataError: a file is wrong, there is no mask, or ``json_file`` is needed.
    """
    document, sha256 = read_document(path, "")
    if isinstance(document, list):
        masks = _of_results(path, json_file, len(document))
    else:
        source = check_document(document, path, "", sha256, bad_box="skip", need_boxes=False)
        masks = MaskSet(source, [], Tally())
        sizes = {image["id"]: (image["height"], image["width"]) for image in source.images}
        for a in source.annotations:
            cause, label = _no_mask(a), f"{path}: annotation {a['id']}"
            if not cause:
                code = read_mask(a, "segmentation", sizes[a["image_id"]], label)
                cause = "" if rle_area(code) else "masks without a pixel"
            if cause:
                masks.left_out.add(cause, f"annotation {a['id']}")
            else:
                masks.annotations.append(a | {"segmentation": code})
    if not masks.annotations:
        causes = "; ".join(["", *masks.left_out.lines()])
        raise DataError(f"{path}: found no mask, expected a proxy-mask file or results{causes}")
    return masks


def _no_mask(annotation: Annotation) -> str:
    """Why an annotation has no mask that is worth to be written."""
    if annotation.get("iscrowd"):
        return "crowds"
    if annotation.get("status") in ("empty", "failed"):
        return f"boxes without a mask (status {annotation['status']})"
    return "" if annotation.get("segmentation") else "annotations without a mask"


def _of_results(path: str, json_file: str | None, entries: int) -> MaskSet:
    if json_file is None:
        raise DataError(
            f"{path}: found a list, which has no images; name the COCO file that it is about by --json"
        )
    source = load_source(json_file, bad_box="skip", need_boxes=False)
    found, _ = read_masks(path, source)
    result = MaskSet(source, [], Tally())
    if entries > len(found):
        result.left_out.add("entries without a mask", path, entries - len(found))
    for number, mask in enumerate(found, start=1):
        if mask.category_id is None:
            raise DataError(f"{mask.label}: key 'category_id': found nothing, expected a category")
        x0, y0, x1, y1 = mask.box.tolist()
        made = {
            "id": number,
            "image_id": mask.image_id,
            "category_id": mask.category_id,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": 0,
            "segmentation": mask.mask,
            "score": mask.score,
        }
        if mask.annotation_id is not None:
            made["annotation_id"] = mask.annotation_id
        result.annotations.append(made)
    return result


def check_names(source: CocoSource) -> None:
    """Whether every image can have a file of its own.

    Raises:
        DataError: a name leaves the folder, or two differ in the suffix only.
    """
    owners: dict[str, str] = {}
    for image in source.images:
        name: str = image["file_name"]
        if leaves_root(name):
            raise DataError(
                f"{source.json_file}: image {image['id']!r}: {name} leaves the image folder; make the names "
                "relative to it"
            )
        stem = os.path.splitext(name)[0]
        if owners.setdefault(stem, name) != name:
            raise DataError(
                f"{source.json_file}: {owners[stem]} and {name}: two images of one name would have one file"
            )
