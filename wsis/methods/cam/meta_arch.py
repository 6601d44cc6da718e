"""A classifier of image tags in training, its class activation maps afterwards."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config.params import read
from wsis.layers.seeds import strided_sum
from wsis.methods.cam.config import CAMParams
from wsis.methods.cam.refiner import CAM_LABEL, CAM_MAP, CAMRefiner
from wsis.modeling.class_maps import maps_over_scales
from wsis.modeling.method import Result
from wsis.modeling.segmentor import number_of_classes
from wsis.modeling.tag_classifier import TagClassifier
from wsis.modeling.teacher import MapRefiner, TagTeacher, seed_from_inputs
from wsis.structures import Seed


@META_ARCH_REGISTRY.register()
class CAM(TagClassifier, TagTeacher):
    """Class activation maps of a classifier of image tags. In training mode, and where it is scored, it is that
    classifier.
    """

    returns: Result = "tags"
    map_names = (CAM_MAP,)
    result_keys = ("MODEL", "INPUT", "PROXY.SEM_SEG")

    @configurable
    def __init__(self, *, cam: CAMParams, sem_seg: bool = False, **classifier: Any) -> None:
        """
        Args:
            cam: of the maps.
            sem_seg: also make labels.
            classifier: see :class:`wsis.modeling.tag_classifier.TagClassifier`.
        """
        super().__init__(**classifier)
        self.cam = cam
        self.label_names = (CAM_LABEL,) if sem_seg else ()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.CAM`` and ``PROXY.SEM_SEG``, too.

        Raises:
            ConfigError: a value out of its range, or more classes than a label in one byte can name.
        """
        number_of_classes(cfg)
        parts = {"cam": read(cfg, CAMParams), "sem_seg": cfg.PROXY.SEM_SEG}
        return super().from_config(cfg) | parts

    @classmethod
    def needs_tags(cls, cfg: CfgNode) -> bool:
        """See :meth:`wsis.modeling.teacher.TagTeacher.needs_tags`."""
        return bool(cfg.MODEL.CAM.TAGS == "given")

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`wsis.modeling.teacher.Maker.propose`; a seed has the summed maps of the image's classes."""
        return [self._seed(inputs) for inputs in batched_inputs]

    def _seed(self, inputs: dict[str, Any]) -> Seed:
        if self.cam.tags == "predicted":
            inputs = inputs | {"tags": self._predicted(inputs["image"])}
        tags = list(inputs["tags"])
        maps = maps_over_scales(
            lambda images: self.maps(images)[:, tags].float().relu(),
            self.normalise(inputs["image"]),
            self.cam.scales,
        )
        summed = strided_sum(maps, inputs["height"], inputs["width"], self.cam.stride)
        return seed_from_inputs(inputs, {CAM_MAP: summed.cpu().numpy()})

    def _predicted(self, image: torch.Tensor) -> list[int]:
        scores = self.scores(image[None])[0].float()
        found = scores == scores.max()
        if self.params.loss != "cross_entropy":
            found |= scores.sigmoid() >= self.cam.min_probability
        return found.nonzero()[:, 0].tolist()

    def refiner(self) -> MapRefiner:
        """See :meth:`wsis.modeling.teacher.Maker.refiner`."""
        return CAMRefiner(self.cam.stride, self.cam.background if self.label_names else None)
