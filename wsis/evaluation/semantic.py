"""Scores the semantic maps that a model returns against the true ones of a dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from numpy.typing import ArrayLike

from wsis.data.labels import LabelReader, truth_reader
from wsis.data.registration import get_source
from wsis.errors import ConfigError
from wsis.evaluation.semantic_quality import (
    Counts,
    count_labels,
    format_semantic,
    metrics_of,
    semantic_quality,
)
from wsis.parallel import WorkerPool, number_of_workers
from wsis.structures.proxy_file import write_json_atomic
from wsis.structures.pseudo_labels import IGNORE, label_path, write_label

logger = logging.getLogger(__name__)

TASK = "sem_seg"


class SemanticEvaluator(DatasetEvaluator):
    """mIoU and its companions from one confusion matrix over all images and processes, and contour F.

    A model returns ``sem_seg``, (C, H, W) scores, or several label maps by name as ``sem_seg_labels``, each of which is
    scored. Such a map may be an object that makes its (H, W) integers when NumPy asks for them (``__array__``); these
    are made in worker processes, while the model goes on. A prediction of 255 where the truth is known is a miss.

    With an ``output_dir``, the whole result is written to ``semantic_quality.json`` there, with ``save_labels`` each
    label map to ``<name>/<image>.png`` too.

    Args:
        dataset_name: a registered dataset with label maps or instance masks.
        output_dir: folder for the result, or None.
        class_agnostic: all classes of the truth are one.
        save_labels: also write the label maps; without any truth only this.
        num_workers: processes for maps that are still to be made; -1 = one per core, shared out among the processes of
            this machine, 0 = none.
        distributed: add up the counts of all processes.

    Raises:
        ConfigError, DataError: the dataset has no truth of this kind.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        *,
        class_agnostic: bool = False,
        save_labels: bool = False,
        num_workers: int = 0,
        distributed: bool = True,
    ) -> None:
        source = get_source(dataset_name, bad_box="skip", need_boxes=False)
        names = ["object"] if class_agnostic else source.class_names
        self.class_names = ["background", *names]
        self._images = {image["id"]: image for image in source.images}
        self._output_dir = output_dir
        self._label_dir = output_dir if save_labels else None
        self._truth = self._find_truth(dataset_name, class_agnostic)
        self._num_workers = number_of_workers(num_workers, comm.get_local_size())
        self._distributed = distributed
        self._pool: WorkerPool | None = None
        self.reset()

    def _find_truth(self, dataset_name: str, class_agnostic: bool) -> LabelReader:
        try:
            return truth_reader(dataset_name, class_agnostic)
        except ConfigError as error:
            if self._label_dir is None:
                raise
            logger.warning("%s: label maps are written, and nothing is scored", error)
            return lambda image: np.full((image["height"], image["width"]), IGNORE, dtype=np.uint8)

    def reset(self) -> None:
        """Forgets all counts."""
        self._counts: dict[str, Counts] = {}
        self._close()

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes the results of one batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``sem_seg_labels``, name to (H, W) integers, or ``sem_seg``, (C, H, W) scores.

        Raises:
            DataError: a map has not the size of the truth, or a value that is no class.
        """
        for given, output in zip(inputs, outputs, strict=True):
            image = self._images[given["image_id"]]
            truth = self._truth(image)
            for name, labels in _named_labels(output).items():
                file, number, place = image["file_name"], len(self.class_names), None
                if self._label_dir is not None:
                    place = label_path(self._label_dir, name, file)
                # known now, so that the results' order is not that in which workers finish
                self._counts.setdefault(name, Counts.of_nothing(number))
                arguments = name, labels, truth, number, file, place
                if isinstance(labels, torch.Tensor) or self._num_workers == 0:
                    self._add(_count(*arguments))
                else:
                    self._pool = self._pool or WorkerPool(_count, self._num_workers)
                    self._pool.submit(*arguments)
                    self._add(*self._pool.take())

    def _add(self, *counted: tuple[str, Counts]) -> None:
        for name, counts in counted:
            self._counts[name] += counts

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self._pool = None

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns:
        ``{"sem_seg": metrics}``, or ``{"sem_seg_<name>": metrics}`` for each named map, in percent; on all but the main
        process nothing. See :func:`wsis.evaluation.semantic_quality.metrics_of`.
        """
        while self._pool is not None and self._pool.pending:
            self._add(*self._pool.take(wait_for_one=True))
        self._close()
        parts = [self._counts]
        if self._distributed:
            comm.synchronize()
            parts = comm.gather(self._counts, dst=0)
            if not comm.is_main_process():
                return {}
        names = dict.fromkeys(name for part in parts for name in part)
        if not names:
            logger.warning("No image was processed")
            return {}
        qualities = {}
        for name in names:
            nothing = Counts.of_nothing(len(self.class_names))
            counts = sum((part[name] for part in parts if name in part), nothing)
            qualities[name] = semantic_quality(counts, self.class_names)
        logger.info("Semantic maps:\n%s", format_semantic(qualities))
        if self._output_dir:
            path = os.path.join(self._output_dir, "semantic_quality.json")
            write_json_atomic(path, qualities, indent=2)
        return {name: metrics_of(quality) for name, quality in qualities.items()}


def _named_labels(output: Mapping[str, Any]) -> dict[str, Any]:
    if "sem_seg_labels" in output:
        return {f"{TASK}_{name}": labels for name, labels in output["sem_seg_labels"].items()}
    return {TASK: output["sem_seg"].argmax(dim=0)}


def _count(
    name: str, labels: ArrayLike, truth: np.ndarray, num_classes: int, file: str, place: Path | None
) -> tuple[str, Counts]:
    if isinstance(labels, torch.Tensor):
        labels = labels.cpu().numpy()
    label = np.asarray(labels)
    counts = count_labels(label, truth, num_classes, file)
    if place is not None:
        write_label(place, label)
    return name, counts
