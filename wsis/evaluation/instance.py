"""COCO evaluation of a student, with the thresholds and overlaps that the weakly supervised literature reports."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from wsis.data.registration import get_source
from wsis.errors import counted
from wsis.evaluation.proxy_pairs import segmentation_kind
from wsis.structures.proxy_file import write_json_atomic
from wsis.structures.rle import RLE, decode_mask, encode_mask, rle_area, segmentation_to_rle

logger = logging.getLogger(__name__)

EXTRA_IOUS = (0.25, 0.70)


def _quiet() -> contextlib.AbstractContextManager[Any]:
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
        with _quiet():
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
        with _quiet():
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


class InstanceEvaluator(COCOEvaluator):
    """Detectron2's COCO evaluator, and beside its numbers AP25, AP70 and average best overlap.

    It always uses stock pycocotools, scores masks if and only if each object of the ground truth has one (else it says
    so in one line and gives box AP only), and takes "nothing found at all" for AP 0, not for NaN.
    With an ``output_dir`` it also writes ``metrics.json`` there, which names the form of the ground truth.

    Args:
        dataset_name: a registered dataset.
        output_dir: folder for predictions and metrics, or None.
        max_dets_per_image: highest-scoring predictions of an image that count.
        distributed: gather the predictions of all processes.
    """

    _metadata: Metadata
    _coco_api: Any  # pycocotools.coco.COCO, untyped

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int = 100,
        distributed: bool = True,
    ) -> None:
        # Detectron2's own __init__ would read the file again, unchecked
        DatasetEvaluator.__init__(self)
        self._logger = logger
        self._distributed, self._output_dir, self._use_fast_impl = distributed, output_dir, False
        self._max_dets_per_image = [1, 10, max_dets_per_image]
        self._tasks, self._kpt_oks_sigmas, self._do_evaluation = None, (), True
        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(dataset_name)
        source = get_source(dataset_name, bad_box="later", need_boxes=False)
        document = {
            "images": source.images,
            "categories": source.run_categories,
            "annotations": source.annotations,
        }
        id_to_contiguous = self._metadata.get("thing_dataset_id_to_contiguous_id")
        self._coco_api = GroundTruth(document, id_to_contiguous)
        if id_to_contiguous is not None:  # one id for each class, also where classes are merged
            first_ids = first_id_of_classes(id_to_contiguous)
            self._metadata = Metadata(
                name=dataset_name,
                thing_classes=self._metadata.get("thing_classes"),
                thing_dataset_id_to_contiguous_id={c: index for index, c in first_ids.items()},
            )

    @property
    def without_mask_score(self) -> str:
        """Why masks are not scored; "" where they are."""
        annotations = self._coco_api.dataset["annotations"]
        without, total = self._coco_api.num_without_mask, sum(not a["iscrowd"] for a in annotations)
        if not without and total:
            return ""
        return (
            f"{without} of {counted(total, 'object')} of the ground truth have no mask: box AP only"
        )

    def evaluate(self, img_ids: list[Any] | None = None) -> dict[str, dict[str, float]]:
        """AP in percent per task; empty on all but the main process."""
        results = super().evaluate(img_ids)
        if results:
            logger.info(
                "Ground truth of %s: %s masks", self._metadata.name, self._coco_api.kind or "no"
            )
            if self._output_dir:
                record = {"dataset": self._metadata.name, "ground_truth": self._coco_api.kind}
                for task, values in results.items():
                    record[task] = {
                        k: float(v) if math.isfinite(v) else None for k, v in values.items()
                    }
                write_json_atomic(os.path.join(self._output_dir, "metrics.json"), record, indent=2)
        return results

    def _tasks_from_predictions(self, predictions: list[dict[str, Any]]) -> list[str]:
        if self.without_mask_score:
            logger.warning("%s: %s", self._metadata.name, self.without_mask_score)
            return ["bbox"]
        has_masks = not predictions or any("segmentation" in p for p in predictions)
        return ["bbox", "segm"] if has_masks else ["bbox"]

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        if coco_eval is None:  # Detectron2's way to say that there is no prediction at all
            coco_eval = COCOeval(self._coco_api, self._coco_api.loadRes([]), iou_type)
            with _quiet():
                coco_eval.evaluate()
                coco_eval.accumulate()
                coco_eval.summarize()
        index_of = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if class_names is not None and index_of is not None:  # pycocotools goes by ids
            class_names = [class_names[index_of[c]] for c in sorted(index_of)]
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        extra = {**_extra_ap(coco_eval), **_best_overlap(coco_eval)}
        logger.info(
            "%s: %s", iou_type, ", ".join(f"{name} {value:.3f}" for name, value in extra.items())
        )
        return {**results, **extra}


def _extra_ap(coco_eval: COCOeval) -> dict[str, float]:
    """AP in percent at :data:`EXTRA_IOUS`, NaN without ground truth, from an evaluation that has been run."""
    again = COCOeval(coco_eval.cocoGt, coco_eval.cocoDt, coco_eval.params.iouType)
    again.params.imgIds = coco_eval.params.imgIds
    again.params.iouThrs = np.array(EXTRA_IOUS)
    again.params.maxDets = coco_eval.params.maxDets[-1:]
    again.params.areaRng = coco_eval.params.areaRng[:1]
    again.params.areaRngLbl = coco_eval.params.areaRngLbl[:1]
    with _quiet():
        again.evaluate()
        again.accumulate()
    out = {}
    for iou, precision in zip(EXTRA_IOUS, again.eval["precision"], strict=True):
        known = precision[precision > -1]  # of (recall, class, 1, 1)
        out[f"AP{round(100 * iou)}"] = 100 * float(known.mean()) if known.size else float("nan")
    return out


def _best_overlap(coco_eval: COCOeval) -> dict[str, float]:
    """Average best overlap in percent: for each object the highest IoU of a prediction of its class on its image, 0 if
    there is none; ``ABO`` is the mean over objects, ``ABO-class`` the mean of the classes' means. Crowds are left out.
    """
    of_class: dict[int, list[float]] = {}
    for (image_id, category_id), ious in coco_eval.ious.items():
        objects = coco_eval._gts[image_id, category_id]
        best = np.max(ious, axis=0) if len(ious) else np.zeros(len(objects))
        for annotation, overlap in zip(objects, best, strict=True):
            if not annotation["iscrowd"]:
                of_class.setdefault(category_id, []).append(float(overlap))
    if not of_class:
        return {"ABO": float("nan"), "ABO-class": float("nan")}
    everything = [overlap for overlaps in of_class.values() for overlap in overlaps]
    means = [np.mean(overlaps) for overlaps in of_class.values()]
    return {"ABO": 100 * float(np.mean(everything)), "ABO-class": 100 * float(np.mean(means))}
