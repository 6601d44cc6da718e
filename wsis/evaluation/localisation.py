"""Localisation by image tags: boxes and pixels of one score map against the objects of its class."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from wsis.config.params import key, node, read
from wsis.config.rules import at_least_below
from wsis.data.labels import instances_to_label
from wsis.data.registration import get_source
from wsis.data.source import CocoSource
from wsis.data.tag_loader import TagCropParams
from wsis.errors import ConfigError, DataError, counted
from wsis.layers.iou import box_iou
from wsis.layers.localisation import (
    BINS,
    boxes_in_crop,
    boxes_of_map,
    localisation_accuracies,
    max_box_accuracy,
    normalised_map,
    pixel_scores,
    score_histogram,
)
from wsis.structures import ScoreMaps
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import write_json_atomic
from wsis.structures.pseudo_labels import IGNORE

logger = logging.getLogger(__name__)

TASK = "localisation"
SWEEP = tuple(round(0.01 * i, 2) for i in range(100))
"""Thresholds among which MaxBoxAccV2, and a chosen threshold, are found."""
UNRANKED = 10**6
"""Rank of a class of which no score is known."""


@node("TEST.LOCALISATION")
@dataclass(frozen=True)
class LocalisationParams:
    """How score maps are judged by the boxes and masks of their classes.

    Attributes:
        threshold: Share of the stretched map's range above which the box is drawn, by which the results are told.
        choose: Also tell the results at the threshold that is best on these very images, as the published numbers are
            chosen on their test sets; they are named "chosen here".
    """

    threshold: float = key(0.25, at_least_below(0, 1))
    choose: bool = key(False)


@dataclass(frozen=True)
class View:
    """What of an image its maps show.

    Attributes:
        kind: "centre", "resize" or "whole", see :class:`wsis.data.tag_loader.TagCropParams`.
        resize, size: sides of the square, and of the crop.
    """

    kind: str = "whole"
    resize: int = 256
    size: int = 224

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes (N, 4) XYXY of the image as the view shows them; inclusive far edges but in the whole image."""
        if self.kind == "whole":
            return boxes
        resize = self.resize if self.kind == "centre" else self.size
        return boxes_in_crop(boxes, (height, width), resize, self.size)

    def label(self, label: np.ndarray) -> np.ndarray:
        """A label map (H, W) uint8 as the view shows it, by the nearest pixel."""
        if self.kind == "whole":
            return label
        side = self.resize if self.kind == "centre" else self.size
        margin = (side - self.size) // 2
        resized = T.ResizeTransform(*label.shape, side, side).apply_segmentation(label)
        return resized[margin : margin + self.size, margin : margin + self.size]


@dataclass
class Counts:
    """What is counted of some objects.

    Attributes:
        iou: of each object at each threshold.
        ranks: how many classes have a higher score than the object's.
        histogram: see :func:`wsis.layers.localisation.score_histogram`.
    """

    iou: list[np.ndarray] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    histogram: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS), dtype=np.int64))

    def __iadd__(self, other: Counts) -> Counts:
        self.iou += other.iou
        self.ranks += other.ranks
        self.histogram += other.histogram
        return self


class Localisation:
    """Counts and scores the maps of the classes of images. The unit is an image and one of its classes.

    Args:
        source: the images with boxes, and maybe masks, of their objects.
        threshold: of the told results.
        view: what the maps show.

    Raises:
        DataError: no object has a box.
    """

    def __init__(self, source: CocoSource, threshold: float, view: View) -> None:
        if not any(not a.get("iscrowd") and "bbox" in a for a in source.annotations):
            raise DataError(f"{source.json_file}: found no box, expected some to judge boxes by")
        self.source, self.view = source, view
        self.thresholds = np.array([*SWEEP, threshold], dtype=np.float32)
        self.counts = Counts()
        self._images = {image["id"]: image for image in source.images}

    def add(self, image_id: int | str, maps: ScoreMaps, scores: np.ndarray | None = None) -> None:
        """Counts one image.

        Args:
            image_id: of the source.
            maps: of the classes that the image has; the size is that of the view.
            scores: (C,) of the classes by which they are ranked.
        """
        image = self._images[image_id]
        boxes = self._boxes_by_class(image)
        label = (
            self.view.label(instances_to_label(self.source, image))
            if self.source.has_masks
            else None
        )
        for value, row in zip(maps.classes.tolist(), maps.scores, strict=True):
            if value not in boxes:
                continue
            stretched = _stretched(maps, row)
            found = boxes_of_map(stretched, self.thresholds)
            inclusive = self.view.kind != "whole"
            iou = box_iou(found[:, None], boxes[value][None], inclusive)
            self.counts.iou.append(iou.max(axis=1))
            better = UNRANKED if scores is None else int((scores > scores[value - 1]).sum())
            self.counts.ranks.append(better)
            if label is not None:
                truth = np.where(label == IGNORE, IGNORE, label == value).astype(np.uint8)
                self.counts.histogram += score_histogram(stretched, truth)

    def _boxes_by_class(self, image: dict[str, Any]) -> dict[int, np.ndarray]:
        """Label value to the boxes of its objects, as the view shows them."""
        found: dict[int, list[np.ndarray]] = {}
        for annotation in self.source.annotations_of(image["id"]):
            if not annotation.get("iscrowd") and "bbox" in annotation:
                value = self.source.id_to_contiguous[annotation["category_id"]] + 1
                found.setdefault(value, []).append(xywh_to_xyxy(annotation["bbox"]))
        size = image["height"], image["width"]
        return {value: self.view.boxes(np.stack(boxes), *size) for value, boxes in found.items()}

    def results(self, choose: bool = False) -> dict[str, float]:
        """Scores in percent; those of pixels stand only beside masks, those of ranks only beside class scores.

        Args:
            choose: also those at the threshold that is best here.
        """
        counts = self.counts
        iou, ranks = np.stack(counts.iou), np.array(counts.ranks)
        accuracies = localisation_accuracies(iou, ranks)
        ranked = bool((ranks < UNRANKED).all())
        names = {"gt_known": "GTknown"} | ({"top1": "Top1Loc", "top5": "Top5Loc"} if ranked else {})
        names |= {f"iou{number}": f"IoU{number}" for number in (30, 50, 70)}
        found = {name: 100 * accuracies[key_][-1] for key_, name in names.items()}
        found["MaxBoxAccV2"] = 100 * max_box_accuracy(iou[:, :-1])
        if ranked:
            found |= {f"Top{n}": 100 * (ranks < n).mean() for n in (1, 5)}
        if counts.histogram.any():
            found |= dict(
                zip(("PxAP", "PIoU"), 100 * np.array(pixel_scores(counts.histogram)), strict=True)
            )
        if choose:
            sums = accuracies["gt_known"] + (accuracies["top1"] if ranked else 0)
            best = int(sums[:-1].argmax())
            found |= {f"{n} chosen here": 100 * accuracies[k][best] for k, n in names.items()}
            found["threshold chosen here"] = SWEEP[best]
        return {name: float(value) for name, value in found.items()}


def _stretched(maps: ScoreMaps, row: np.ndarray) -> np.ndarray:
    """One of the maps in [0, 1] at the view's size."""
    if maps.stride == 0:
        return normalised_map(row, (maps.height, maps.width))
    plain = normalised_map(row, row.shape)
    one = ScoreMaps(np.ones(1), plain[None], maps.height, maps.width, maps.stride)
    return one.enlarged()[0].numpy()


class LocalisationEvaluator(DatasetEvaluator):
    """:class:`Localisation` of what a model returns.

    Args:
        dataset_name: a registered dataset with boxes.
        params: threshold, and whether one is chosen.
        view: what the model's maps show.
        output_dir: the results are written there.
        distributed: gather the counts of all processes.

    Raises:
        DataError: the dataset has no boxes.
    """

    def __init__(
        self,
        dataset_name: str,
        params: LocalisationParams,
        view: View,
        output_dir: str | None = None,
        *,
        distributed: bool = True,
    ) -> None:
        source = get_source(dataset_name, bad_box="skip", need_boxes=False)
        self._make = lambda: Localisation(source, params.threshold, view)
        self._choose, self._output_dir, self._distributed = params.choose, output_dir, distributed
        self.reset()

    @classmethod
    def from_cfg(cls, cfg: CfgNode, dataset_name: str, output_dir: str) -> LocalisationEvaluator:
        """As ``TEST.LOCALISATION`` and ``INPUT.TAG_CROP`` say.

        Raises:
            ConfigError: a value out of its range, or merged classes.
        """
        if cfg.DATASETS.CLASS_AGNOSTIC:
            raise ConfigError(
                "DATASETS.CLASS_AGNOSTIC: found True, expected False: localisation is judged by class"
            )
        crop = read(cfg, TagCropParams)
        view = View(crop.test, crop.resize, crop.size)
        return cls(dataset_name, read(cfg, LocalisationParams), view, output_dir)

    def reset(self) -> None:
        """Forgets all counts."""
        self._found: dict[str, Localisation] = {}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes the results of one batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``score_maps``, name to :class:`wsis.structures.ScoreMaps`, and maybe ``tags``, (C,)
                scores of the classes.
        """
        for given, output in zip(inputs, outputs, strict=True):
            scores = output["tags"].cpu().numpy() if "tags" in output else None
            maps: Mapping[str, ScoreMaps] = output["score_maps"]
            for name, each in maps.items():
                found = self._found.setdefault(name, self._make())
                found.add(given["image_id"], each, scores)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns:
        ``{"localisation": metrics}`` of the first kind of map, in percent, and ``localisation_<name>`` of the others;
        on all but the main process nothing.
        """
        parts = [{name: found.counts for name, found in self._found.items()}]
        if self._distributed:
            comm.synchronize()
            parts = comm.gather(parts[0], dst=0)
            if not comm.is_main_process():
                return {}
        results: dict[str, dict[str, float]] = {}
        for name in dict.fromkeys(name for part in parts for name in part):
            merged = self._make()
            for part in parts:
                merged.counts += part.get(name, Counts())
            if merged.counts.iou:
                task = f"{TASK}_{name}" if results else TASK
                results[task] = merged.results(self._choose)
                logger.info("%s", format_localisation({name: results[task]}, merged))
        if not results:
            logger.warning("No image with a tag and a box was processed")
        elif self._output_dir:
            path = os.path.join(self._output_dir, "localisation.json")
            write_json_atomic(path, results, indent=2)
        return results


def format_localisation(results: Mapping[str, Mapping[str, float]], of: Localisation) -> str:
    """Tables of several kinds of maps.

    Args:
        results: name to :meth:`Localisation.results`.
        of: what they are of.
    """
    number = len(of.counts.iou)
    first = next(iter(results.values()))
    rows = [[name, *(found[n] for n in first)] for name, found in results.items()]
    table = tabulate(rows, headers=["maps", *first], floatfmt=".2f", tablefmt="simple")
    objects = counted(number, "pair", "pairs")
    return (
        f"Localisation of {objects} of image and class, threshold {of.thresholds[-1]:.2f}:\n{table}"
    )
