"""The fusion of several teachers' masks as a Detectron2 meta-architecture."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config.params import read
from wsis.data.proxy_index import ProxyIndex
from wsis.data.registration import get_source
from wsis.data.source import CocoSource
from wsis.errors import ConfigError, DataError
from wsis.methods.fusion.config import FusionParams
from wsis.methods.fusion.refiner import FusionRefiner, seed_maps
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import Seed

logger = logging.getLogger(__name__)
KEY = "MODEL.FUSION.FILES"


@META_ARCH_REGISTRY.register()
class Fusion(Teacher):
    """Makes one mask of those that several proxy-mask files have of a box."""

    needs_image = False
    result_keys = ("MODEL.FUSION",)
    location_keys = (KEY,)

    @configurable
    def __init__(
        self, *, source: CocoSource, files: Sequence[ProxyIndex], refine: FusionRefiner
    ) -> None:
        """
        Args:
            source: whose boxes want masks.
            files: masks of these boxes.
            refine: the rule.
        """
        super().__init__()
        self.files, self.refine = files, refine
        self._rows = {a["id"]: row for row, a in enumerate(source.annotations)}
        self._of = source.json_file
        digests = {f"{KEY}[{i}]": file.sha256 for i, file in enumerate(files)}
        self.inputs_sha256: Mapping[str, str] = digests

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.FUSION`` and the one dataset of ``DATASETS.TRAIN``.

        Raises:
            ConfigError: a value out of its range, or not exactly one dataset.
            DataError: a file is no proxy-mask file, or of other boxes.
        """
        params, names = read(cfg, FusionParams), cfg.DATASETS.TRAIN
        if len(names) != 1:
            raise ConfigError(
                f"DATASETS.TRAIN: found {list(names)}, expected one dataset: the masks of a file belong to one"
            )
        source = get_source(names[0], bad_box=cfg.DATASETS.BAD_BOX)
        files = [ProxyIndex(path, source) for path in params.files]
        methods = ", ".join(file.method for file in files)
        logger.info("fusing the masks of %s by %s", methods, params.rule)
        refine = FusionRefiner(params.rule, params.min_agreement)
        return {"source": source, "files": files, "refine": refine}

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """Each image's codes and scores, see :meth:`Teacher.propose`."""
        seeds = []
        for inputs in batched_inputs:
            seed = seed_from_inputs(inputs)
            strange = [each for each in seed.annotation_ids if each not in self._rows]
            if strange:
                raise DataError(
                    f"Fusion: found annotation {strange[0]}, expected those of {self._of} alone"
                )
            rows = [self._rows[each] for each in seed.annotation_ids]
            seed.maps = seed_maps([file.read(rows) for file in self.files])
            seeds.append(seed)
        return seeds

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return self.refine
