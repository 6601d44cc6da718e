"""What all methods share that learn from image tags: their loader, its check, and what they see at test time."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from wsis.data.build import Batches, Mapper
from wsis.data.crop_loader import build_loader
from wsis.data.tag_loader import TagMapper, eval_mapper, eval_transforms, tag_records
from wsis.modeling.method import Method


class TagLearner(Method):
    """A method that trains on crops with their tags, see :mod:`wsis.data.tag_loader`."""

    @classmethod
    def needs_one_tag(cls, cfg: CfgNode) -> bool:
        """Whether the loss takes images of exactly one tag only."""
        return False

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """Raises ConfigError or DataError where the training, or the evaluation at its end, would."""
        eval_transforms(cfg)
        cls._training_parts(cfg)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """Endless batches of :class:`wsis.data.tag_loader.TagMapper`.

        Raises:
            ConfigError, DataError: see :func:`wsis.data.tag_loader.tag_records`.
        """
        return build_loader(cfg, *cls._training_parts(cfg))

    @classmethod
    def _training_parts(cls, cfg: CfgNode) -> tuple[list[dict[str, Any]], TagMapper]:
        return tag_records(cfg, one_tag=cls.needs_one_tag(cfg)), TagMapper(cfg)

    @classmethod
    def test_mapper(cls, cfg: CfgNode) -> Mapper:
        """As ``INPUT.TAG_CROP.TEST`` says."""
        return eval_mapper(cfg, keep_original=cls.needs_original_image)
