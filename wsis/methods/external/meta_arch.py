"""Masks of another tool as a Detectron2 meta-architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config.params import read
from wsis.data.external_masks import JoinedMasks, join_masks
from wsis.data.registration import get_source
from wsis.errors import ConfigError
from wsis.methods.external.config import ExternalParams
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import RLE, ProxyMasks, Seed


@META_ARCH_REGISTRY.register()
class ExternalMasks(Teacher):
    """Looks up each box's mask in a file."""

    needs_image = False
    result_keys = ("MODEL.EXTERNAL",)
    location_keys = ("MODEL.EXTERNAL.FILE",)

    @configurable
    def __init__(self, *, joined: JoinedMasks) -> None:
        """
        Args:
            joined: the file's masks by annotation id.
        """
        super().__init__()
        self.masks = joined.masks
        self.inputs_sha256: Mapping[str, str] = {"MODEL.EXTERNAL.FILE": joined.sha256}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.EXTERNAL`` and the one dataset of ``DATASETS.TRAIN``.

        Raises:
            ConfigError: no file is named, or not exactly one dataset.
            DataError: see :func:`wsis.data.external_masks.join_masks`.
        """
        params, names = read(cfg, ExternalParams), cfg.DATASETS.TRAIN
        if not params.file:
            raise ConfigError("MODEL.EXTERNAL.FILE: found nothing, expected a file of masks")
        if len(names) != 1:
            raise ConfigError(
                f"DATASETS.TRAIN: found {list(names)}, expected one dataset: the masks of a file belong to one"
            )
        options = dict(vars(params.joining))
        options["match_class"] &= not cfg.DATASETS.CLASS_AGNOSTIC
        source = get_source(names[0], bad_box=cfg.DATASETS.BAD_BOX)
        return {"joined": join_masks(params.file, source, **options)}

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """Each image's codes and scores, see :meth:`Teacher.propose`."""
        seeds = []
        for inputs in batched_inputs:
            ids = [int(i) for i in inputs["instances"].annotation_ids]
            found = [(row, self.masks[i]) for row, i in enumerate(ids) if i in self.masks]
            maps = {
                "rows": np.array([row for row, _ in found], dtype=np.int64),
                "counts": np.array([mask.mask["counts"] for _, mask in found], dtype=object),
                "scores": np.array([mask.score for _, mask in found], dtype=np.float64),
            }
            seeds.append(seed_from_inputs(inputs, maps))
        return seeds

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return _look_up


def _look_up(seed: Seed, image: np.ndarray) -> ProxyMasks:
    codes: list[RLE | None] = [None] * len(seed)
    scores = np.ones(len(seed))
    scores[seed.maps["rows"]] = seed.maps["scores"]
    for row, counts in zip(seed.maps["rows"], seed.maps["counts"], strict=True):
        codes[row] = {"size": [seed.height, seed.width], "counts": counts}
    return ProxyMasks.from_codes(seed, codes, scores=scores.tolist())
