"""How good folders of score maps are, against boxes and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wsis.data.labels import instances_to_label
from wsis.data.score_maps import open_score_maps
from wsis.data.source import CocoSource
from wsis.evaluation.localisation import Localisation, View
from wsis.evaluation.seed_sweep import THRESHOLDS, SeedSweep
from wsis.evaluation.semantic_quality import Counts, count_labels, metrics_of, semantic_quality
from wsis.layers.seeds import label_map
from wsis.structures import ScoreMaps


def score_map_folder_quality(
    folder: str | os.PathLike[str],
    source: CocoSource,
    threshold: float,
    choose: bool = False,
    backgrounds: Sequence[float] = THRESHOLDS,
) -> tuple[dict[str, float], Localisation]:
    """Scores of all maps in a folder: boxes and pixels of each class of each image, and as semantic seeds mIoU, recall
    (mean over the classes of objects) and contour F.

    Args:
        folder: of score maps that :mod:`wsis.engine.generation` made of the same images, maybe of another file of them.
        source: the images, with boxes or with masks too.
        threshold: see :class:`wsis.evaluation.localisation.LocalisationParams`.
        choose: also tell what the best threshold on these images gives.
        backgrounds: constant scores of background among which that of the best mIoU is found.

    Returns:
        Numbers in percent by name, and what they were counted from.

    Raises:
        ConfigError, DataError: see :func:`wsis.data.score_maps.open_score_maps`; a map is missing; there are no boxes.
    """
    read = open_score_maps(source, folder, source.class_names, same_source=False)
    found = Localisation(source, threshold, View())
    sweep = SeedSweep(len(source.class_names) + 1, backgrounds) if source.has_masks else None
    for image in source.images:
        maps = read(_record(source, image))
        found.add(image["id"], maps)
        if sweep is not None:
            label = instances_to_label(source, image)
            sweep.add(maps.enlarged(), maps.classes.tolist(), label)
    results = found.results(choose)
    if sweep is not None:
        scores = sweep.scores()
        results |= {"seed mIoU": 100 * scores.scores.mean_iou, "background": scores.best}
        results["seed recall"] = 100 * float(np.nanmean(scores.scores.accuracy[1:]))
        results["seed contourF"] = _contour(source, read, scores.best)
    return results, found


def _contour(
    source: CocoSource, read: Callable[[dict[str, Any]], ScoreMaps], background: float
) -> float:
    """Contour F of the seeds, in percent."""
    names = ["background", *source.class_names]
    counts = Counts.of_nothing(len(names))
    for image in source.images:
        maps = read(_record(source, image))
        seeds = label_map(maps.enlarged(), maps.classes.tolist(), background).numpy()
        counts += count_labels(
            seeds, instances_to_label(source, image), len(names), image["file_name"]
        )
    return metrics_of(semantic_quality(counts, names))["contourF"]


def _record(source: CocoSource, image: dict[str, Any]) -> dict[str, Any]:
    return {**image, "file_name": source.path_of(image)}
