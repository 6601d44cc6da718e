"""Scores the classes that a classifier gives whole images against their tags."""

from __future__ import annotations

import itertools
import logging
import math
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from wsis.data.dicts import to_dicts
from wsis.data.registration import get_source
from wsis.errors import DataError, counted
from wsis.layers.tag_metrics import average_precision, top_accuracy

logger = logging.getLogger(__name__)

TASK = "tags"
_TOPS = (1, 5)


class TagEvaluator(DatasetEvaluator):
    """Mean average precision, and how often the best class, or one of the best five, is a tag of the image.

    Args:
        dataset_name: a registered dataset whose images have tags, or objects.
        class_agnostic: all classes are one.
        distributed: gather the scores of all processes.

    Raises:
        DataError: no image has a tag.
    """

    def __init__(
        self, dataset_name: str, *, class_agnostic: bool = False, distributed: bool = True
    ) -> None:
        source = get_source(dataset_name, bad_box="skip", need_boxes=False)
        self.class_names = ["object"] if class_agnostic else source.class_names
        dicts = to_dicts(source, "image", class_agnostic)
        self._tags = {record["image_id"]: record["image_labels"] for record in dicts}
        if not any(self._tags.values()):
            raise DataError(
                f"{source.json_file}: found no image with a tag, expected some to score tags with"
            )
        self._distributed = distributed
        self.reset()

    def reset(self) -> None:
        """Forgets all scores."""
        self._scores: dict[int | str, np.ndarray] = {}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes the results of one batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``tags``, (C,) scores.
        """
        for given, output in zip(inputs, outputs, strict=True):
            self._scores[given["image_id"]] = output[TASK].float().cpu().numpy()

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns:
        ``{"tags": {"mAP": ..., "top1": ..., "top5": ..., "AP-<class>": ...}}`` in percent; on all but the main process
        nothing. A class that no image has is left out of mAP and has the AP NaN; top5 stands only beside more than five
        classes.
        """
        parts = [self._scores]
        if self._distributed:
            comm.synchronize()
            parts = comm.gather(self._scores, dst=0)
            if not comm.is_main_process():
                return {}
        found = dict(itertools.chain(*(part.items() for part in parts)))
        if not found:
            logger.warning("No image was processed")
            return {}
        scores = np.stack(list(found.values()))
        tags = np.zeros(scores.shape, dtype=bool)
        for row, image_id in enumerate(found):
            tags[row, self._tags[image_id]] = True
        return {TASK: self._results(scores, tags)}

    def _results(self, scores: np.ndarray, tags: np.ndarray) -> dict[str, float]:
        precisions = 100 * average_precision(scores, tags)
        missing = [n for n, ap in zip(self.class_names, precisions, strict=True) if math.isnan(ap)]
        if missing:
            logger.warning(
                "mAP is without %s that no image has: %s",
                counted(len(missing), "class", "classes"),
                ", ".join(missing),
            )
        means = {"mAP": float(np.nanmean(precisions)) if tags.any() else float("nan")}
        for number in _TOPS:
            if number == 1 or number < len(self.class_names):
                means[f"top{number}"] = 100 * top_accuracy(scores, tags, number)
        classes = {name: float(ap) for name, ap in zip(self.class_names, precisions, strict=True)}
        options: dict[str, Any] = {"floatfmt": ".2f", "tablefmt": "simple"}
        logger.info(
            "Tags of %s:\n%s\n\n%s",
            counted(len(scores), "image"),
            tabulate([list(means.values())], headers=list(means), **options),
            tabulate(classes.items(), headers=["class", "AP"], **options),
        )
        return means | {f"AP-{name}": ap for name, ap in classes.items()}
