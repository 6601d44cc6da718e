"""Scores what a teacher returns against the true masks of a dataset, as ``--eval-only`` does for a student."""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import replace
from typing import Any

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from wsis.data.registration import get_source
from wsis.data.source import Annotation
from wsis.evaluation.proxy_quality import format_quality, proxy_quality
from wsis.structures import ProxyMasks
from wsis.structures.proxy_file import proxy_annotation, write_json_atomic

logger = logging.getLogger(__name__)


class ProxyEvaluator(DatasetEvaluator):
    """Proxy mIoU and its companions, see :func:`wsis.evaluation.proxy_quality.proxy_quality`, over the images that
    were processed. The true masks come from the dataset's file, never from the model's input. Where it has none, only
    the fit to the boxes is measured. An object that the teacher was not given (a box without area) counts as ``empty``.

    With an ``output_dir``, the whole result is written to ``proxy_quality.json`` there.

    Args:
        dataset_name: a registered dataset.
        output_dir: folder for the result, or None.
        distributed: gather the masks of all processes.
    """

    def __init__(
        self, dataset_name: str, output_dir: str | None = None, *, distributed: bool = True
    ) -> None:
        self._source = get_source(dataset_name, bad_box="skip")
        self._output_dir = output_dir
        self._distributed = distributed
        self.reset()

    def reset(self) -> None:
        """Forgets all masks."""
        self._annotations: dict[Any, list[Annotation]] = {}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes the results of one batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``proxy``, see :meth:`wsis.structures.ProxyMasks.to_instances`.
        """
        for given, output in zip(inputs, outputs, strict=True):
            sources = {a["id"]: a for a in self._source.annotations_of(given["image_id"])}
            self._annotations[given["image_id"]] = _annotations(sources, output["proxy"].masks)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns:
        ``{"proxy": metrics}`` as shares in [0, 1], NaN where one cannot be computed, with ``mIoU-<class>`` and
        ``mIoU-<size>``; on all but the main process nothing.
        """
        parts = [self._annotations]
        if self._distributed:
            comm.synchronize()
            parts = comm.gather(self._annotations, dst=0)
            if not comm.is_main_process():
                return {}
        source, done = self._source, {key: made for part in parts for key, made in part.items()}
        if not done:
            logger.warning("No image of %s was processed", source.json_file)
            return {}
        images = [image for image in source.images if image["id"] in done]
        annotations = [a for a in source.annotations if a["image_id"] in done]
        truth = replace(source, images=images, annotations=annotations)
        masks = list(itertools.chain(*done.values()))
        proxy = replace(truth, json_file="the teacher's result", annotations=masks)
        if not truth.has_masks:
            text = "%s: no masks in the ground truth: fit to the boxes only"
            logger.warning(text, source.json_file)
        quality = proxy_quality(proxy, truth if truth.has_masks else None)
        logger.info("Proxy masks:\n%s", format_quality(quality))
        if self._output_dir:
            path = os.path.join(self._output_dir, "proxy_quality.json")
            write_json_atomic(path, quality, indent=2)
        return {"proxy": _flat(quality)}


def _annotations(sources: dict[int, Annotation], made: ProxyMasks) -> list[Annotation]:
    """One annotation of the proxy-mask file per source annotation of an image."""
    done = {
        key: proxy_annotation(sources[key], mask, ignore, score, status)
        for key, mask, ignore, score, status in zip(
            made.annotation_ids,
            made.masks,
            made.ignore_masks,
            made.scores,
            made.status,
            strict=True,
        )
    }
    return [done.get(key) or {**source, "status": "empty"} for key, source in sources.items()]


def _flat(quality: dict[str, Any]) -> dict[str, float]:
    """The form that Detectron2 prints and stores: one level, floats only."""
    metrics = {k: v for k, v in quality["overall"].items() if k not in ("count", "scored")}
    for group in ("per_class", "per_size"):
        for name, values in quality[group].items():
            if "mIoU" in values:
                metrics[f"mIoU-{name}"] = values["mIoU"]
    return {k: float("nan") if v is None else float(v) for k, v in metrics.items()}
