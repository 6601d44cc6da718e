"""BANA's third stage: a segmentor that trusts two pseudo labels where they agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config.params import read
from wsis.errors import ConfigError
from wsis.methods.bana.config import BANASegmentorParams
from wsis.methods.bana.nal import LOSSES, NoiseParams
from wsis.modeling.segmentor import Segmentor


@META_ARCH_REGISTRY.register()
class BANASegmentor(Segmentor):
    """DeepLab-V1 LargeFOV or DeepLab-V2, depending on backbone and head, with a loss on two labels at once."""

    num_labels = 2

    @configurable
    def __init__(self, *, loss: str, noise: NoiseParams, **parts: Any) -> None:
        """
        Args:
            loss: one of :data:`wsis.methods.bana.nal.LOSSES`.
            noise: constants of the loss.
            parts: see :class:`wsis.modeling.segmentor.Segmentor`.
        """
        super().__init__(**parts)
        self.loss, self.noise = LOSSES[loss], noise

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.SEGMENTOR``, ``MODEL.BANA_SEG`` and Detectron2's keys of the backbone.

        Raises:
            ConfigError: a value out of its range.
        """
        parts = super().from_config(cfg)
        params = read(cfg, BANASegmentorParams)
        classifier = cfg.MODEL.SEGMENTOR.CLASSIFIER
        if classifier != "cosine":
            raise ConfigError(
                f"MODEL.SEGMENTOR.CLASSIFIER: found {classifier!r}, expected cosine: {cls.__name__} measures its "
                "confidence in cosines"
            )
        noise = replace(params.noise, temperature=parts["protocols"].temperature)
        return {**parts, "loss": params.loss, "noise": noise}

    def losses(self, scores: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """See :data:`wsis.methods.bana.nal.LOSSES`; labels (N, 2, H, W) are Y_crf and Y_ret."""
        return self.loss(scores, labels[:, 0], labels[:, 1], self.noise)
