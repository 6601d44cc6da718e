"""Instance ground truth in the form that pycocotools can score without surprises."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pycocotools.mask as coco_mask
from pycocotools.coco import COCO

from wsis.evaluation.proxy_pairs import segmentation_kind
from wsis.structures.rle import RLE, decode_mask, encode_mask, rle_area, segmentation_to_rle


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Nothing of what pycocotools prints."""
    return contextlib.redirect_stdout(io.StringIO())


class GroundTruth(COCO):
    """A COCO document, copied and completed: stock ``COCOeval`` needs ``area`` and ``iscrowd`` on each annotation and
    takes annotation id 0 for "no match", so missing keys are filled in and ids counted from 1.

    Masks that are scored against it lose the image's void pixels first (key ``void``, a run-length code).

    Args:
        dataset: the document: ``images``, ``categories``, ``annotations``.
        id_to_contiguous: category id to contiguous class; classes that share a number are merged under their first id.
            None leaves all as they are.
    """

    def __init__(
        self, dataset: dict[str, Any], id_to_contiguous: dict[int, int] | None = None
    ) -> None:
        super().__init__()
        self.kind = segmentation_kind(dataset["annotations"])
        first_ids = first_id_of_classes(id_to_contiguous or {})
        merged = {c: first_ids[index] for c, index in (id_to_contiguous or {}).items()}
        sizes = {image["id"]: (image["height"], image["width"]) for image in dataset["images"]}
        annotations = []
        for number, source in enumerate(dataset["annotations"], start=1):
            annotation = {"iscrowd": 0, **source, "id": number}
            annotation["category_id"] = merged.get(source["category_id"], source["category_id"])
            if "area" not in annotation:
                annotation["area"] = _area(annotation, sizes[annotation["image_id"]])
            annotations.append(annotation)
        kept = set(merged.values())
        categories = [c for c in dataset["categories"] if not merged or c["id"] in kept]
        self.dataset = {
            "images": dataset["images"],
            "categories": categories,
            "annotations": annotations,
        }
        with quiet():
            self.createIndex()
        self._without_void: dict[Any, RLE] = {}

    @property
    def num_without_mask(self) -> int:
        """Instances (crowds aside) that have no mask."""
        return sum(
            not a.get("segmentation") and not a["iscrowd"] for a in self.dataset["annotations"]
        )

    def loadRes(self, results: list[dict[str, Any]]) -> COCO:
        """Predictions in COCO's result format; see there. An empty list is one, too."""
        with quiet():
            if results:
                return super().loadRes([self._outside_void(r) for r in results])
            nothing = COCO()
            nothing.dataset = {**self.dataset, "annotations": []}
            nothing.createIndex()
            return nothing

    def _outside_void(self, result: dict[str, Any]) -> dict[str, Any]:
        image = self.imgs.get(result["image_id"], {})
        if not image.get("void") or "segmentation" not in result:
            return result
        if image["id"] not in self._without_void:
            void = segmentation_to_rle(image["void"], image["height"], image["width"])
            self._without_void[image["id"]] = encode_mask(~decode_mask(void))
        mask = coco_mask.merge(
            [result["segmentation"], self._without_void[image["id"]]], intersect=True
        )
        return {**result, "segmentation": mask}


def first_id_of_classes(id_to_contiguous: dict[int, int]) -> dict[int, int]:
    """Contiguous class to the first of the category ids that it stands for."""
    first: dict[int, int] = {}
    for category_id, index in id_to_contiguous.items():
        first.setdefault(index, category_id)
    return first


def _area(annotation: dict[str, Any], size: tuple[int, int]) -> float:
    """Pixels of the mask, else area of the box."""
    if annotation.get("segmentation"):
        return float(rle_area(segmentation_to_rle(annotation["segmentation"], *size)))
    return float(annotation["bbox"][2] * annotation["bbox"][3])
