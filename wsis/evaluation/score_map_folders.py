"""How good folders of score maps are, against boxes and masks."""

from __future__ import annotations

import os
from typing import Any

from wsis.data.labels import instances_to_label
from wsis.data.score_maps import open_score_maps
from wsis.data.source import CocoSource
from wsis.evaluation.localisation import Localisation, View
from wsis.evaluation.seed_sweep import SeedSweep


def score_map_folder_quality(
    folder: str | os.PathLike[str], source: CocoSource, threshold: float, choose: bool = False
) -> tuple[dict[str, float], Localisation]:
    """Scores of all maps in a folder: boxes and pixels of each class of each image, and the mIoU as semantic seeds.

    Args:
        folder: of score maps that :mod:`wsis.engine.generation` made of the same images, maybe of another file of them.
        source: the images, with boxes or with masks too.
        threshold: see :class:`wsis.evaluation.localisation.LocalisationParams`.
        choose: also tell what the best threshold on these images gives.

    Returns:
        Numbers in percent by name, and what they were counted from.

    Raises:
        ConfigError, DataError: see :func:`wsis.data.score_maps.open_score_maps`; a map is missing; there are no boxes.
    """
    read = open_score_maps(source, folder, source.class_names, same_source=False)
    found = Localisation(source, threshold, View())
    sweep = SeedSweep(len(source.class_names) + 1) if source.has_masks else None
    for image in source.images:
        record: dict[str, Any] = {**image, "file_name": source.path_of(image)}
        maps = read(record)
        found.add(image["id"], maps)
        if sweep is not None:
            label = instances_to_label(source, image)
            sweep.add(maps.enlarged(), maps.classes.tolist(), label)
    results = found.results(choose)
    if sweep is not None:
        scores = sweep.scores()
        results |= {"seed mIoU": 100 * scores.scores.mean_iou, "background": scores.best}
    return results, found
