"""The step before IRNet: score maps of one or two methods in one, and the labels of which one can be sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config.params import read
from wsis.layers.dense_crf import load_pydensecrf
from wsis.layers.seeds import ConfidentParams, confident_labels
from wsis.methods.irn.config import SeedParams
from wsis.modeling.seed_reader import SeedReader
from wsis.modeling.teacher import MapRefiner, TagTeacher, seed_from_inputs
from wsis.structures import ImageMaps, ScoreMaps, Seed

LABEL, MAPS = "ir_label", "seed"
STRIDE = 4
"""Of the joined maps on disk."""


@dataclass(frozen=True)
class SeedRefiner:
    """Joined maps on a grid of stride 4, and their confident labels.

    Attributes:
        reader: of the score maps.
        params: of the labels.
    """

    reader: SeedReader
    params: ConfidentParams

    def __call__(self, seed: Seed, image: np.ndarray) -> ImageMaps:
        """See :data:`wsis.modeling.teacher.MapRefiner`."""
        labels, pixels = self.reader(seed, 1)
        _, cells = self.reader(seed, STRIDE)
        return ImageMaps(
            {LABEL: confident_labels(image, pixels, labels, self.params)},
            {MAPS: ScoreMaps(np.array(labels), cells.numpy(), seed.height, seed.width, STRIDE)},
        )


@META_ARCH_REGISTRY.register()
class ConfidentSeeds(TagTeacher):
    """A teacher without a network: the score maps "seed", joined from those of others, and the labels "ir_label" that
    two dense CRFs are sure of, from which IRNet learns.
    """

    needs_image = False
    result_keys = ("MODEL.CONFIDENT_SEEDS",)
    result_packages = ("pydensecrf",)
    label_names = (LABEL,)
    map_names = (MAPS,)

    @configurable
    def __init__(self, *, reader: SeedReader, params: ConfidentParams) -> None:
        """
        Args:
            reader: of the score maps.
            params: of the labels.
        """
        super().__init__()
        self.check_requirements()
        self.reader, self.params = reader, params
        self.inputs_sha256 = reader.inputs_sha256

    @classmethod
    def check_requirements(cls) -> None:
        """See :meth:`TagTeacher.check_requirements`."""
        load_pydensecrf()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.CONFIDENT_SEEDS`` and ``DATASETS.CUSTOM_SCORE_MAPS``.

        Raises:
            ConfigError, DataError: see :meth:`wsis.modeling.seed_reader.SeedReader.from_cfg`.
        """
        params = read(cfg, SeedParams)
        return {"reader": SeedReader.from_cfg(cfg, params.maps), "params": params.labels}

    @classmethod
    def needs_tags(cls, cfg: CfgNode) -> bool:
        """The maps name the classes."""
        return False

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`TagTeacher.propose`."""
        return [seed_from_inputs(inputs) for inputs in batched_inputs]

    def refiner(self) -> MapRefiner:
        """See :meth:`TagTeacher.refiner`."""
        return SeedRefiner(self.reader, self.params)
