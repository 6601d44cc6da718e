"""ICAM as a meta-architecture: it learns from image tags, and in eval mode makes score maps of an image's classes."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from wsis.layers.dense_crf import load_pydensecrf
from wsis.layers.feature_similarity import colours_at
from wsis.methods.icam.cam_model import CamModel
from wsis.methods.icam.config import ICAMParams
from wsis.methods.icam.losses import map_losses, probability_logit
from wsis.methods.icam.maps import mean_maps
from wsis.methods.icam.refiner import ICAM_LABEL, ICAM_MAP, ICAMRefiner, crf_names
from wsis.modeling.method import Result
from wsis.modeling.segmentor import number_of_classes
from wsis.modeling.tag_learner import TagLearner
from wsis.modeling.teacher import MapRefiner, TagTeacher, seed_from_inputs
from wsis.structures import Seed


@META_ARCH_REGISTRY.register()
class ICAM(CamModel, TagLearner, TagTeacher):
    """A classifier of pixels that is told the tags of whole images. In training mode, and where it is scored, it is a
    classifier of images; its score maps are "icam" and those of dense CRFs.
    """

    returns: Result = "tags"
    result_keys = ("MODEL", "INPUT", "PROXY.SEM_SEG")
    params_type = ICAMParams
    params: ICAMParams

    @configurable
    def __init__(self, *, sem_seg: bool = False, **cam: Any) -> None:
        """
        Args:
            sem_seg: also make labels.
            cam: see :class:`wsis.methods.icam.cam_model.CamModel`.
        """
        super().__init__(**cam)
        alphas = self.params.crf_alphas
        self.map_names = (ICAM_MAP, *crf_names(alphas))
        self.label_names = (ICAM_LABEL,) if sem_seg else ()
        self.result_packages = ("pydensecrf",) if alphas else ()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``PROXY.SEM_SEG``, too.

        Raises:
            ConfigError: a value out of its range, or more classes than a label in one byte can name.
        """
        number_of_classes(cfg)
        return super().from_config(cfg) | {"sem_seg": cfg.PROXY.SEM_SEG}

    @classmethod
    def needs_tags(cls, cfg: CfgNode) -> bool:
        """See :meth:`wsis.modeling.teacher.TagTeacher.needs_tags`."""
        return bool(cfg.MODEL.ICAM.TAGS == "given")

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The losses in training mode, else the scores of the tags.

        Args:
            batched_inputs: in training of :class:`wsis.data.tag_loader.TagMapper`; else dicts with ``image``
                (3, h, w) in ``INPUT.FORMAT``.

        Returns:
            See :func:`wsis.methods.icam.losses.map_losses`; or one dict per image: ``tags``, (C,) logits.
        """
        if not self.training:
            return [{"tags": self.tag_scores(inputs["image"])} for inputs in batched_inputs]
        images = self.normalise(torch.stack([inputs["image"] for inputs in batched_inputs]))
        tags = torch.stack([inputs["tags"] for inputs in batched_inputs]).to(images)
        scales = self.both_sizes(images)
        size = (scales[0].plain.shape[2], scales[0].plain.shape[3])
        colours = colours_at(images, self.pixel_mean, self.pixel_std, size)
        return map_losses(scales, tags, colours, self.params.losses)

    def tag_scores(self, image: Tensor) -> Tensor:
        """An image (3, h, w) in ``INPUT.FORMAT`` to (C,) logits: each class where it is most probable."""
        probabilities = self.network(self.normalise(image)[None]).plain.softmax(dim=1)
        return probability_logit(probabilities.amax(dim=(2, 3))[0, 1:])

    def probabilities(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, h, w) to the mean of maps and refined maps (N, C + 1, h', w')."""
        maps = self.network(images)
        return (maps.plain.softmax(dim=1) + maps.refined.softmax(dim=1)) / 2

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`wsis.modeling.teacher.Maker.propose`; a seed has the mean maps of the image's classes."""
        return [self._seed(inputs) for inputs in batched_inputs]

    def _seed(self, inputs: dict[str, Any]) -> Seed:
        params = self.params
        if params.tags == "predicted":
            scores = self.tag_scores(inputs["image"])
            found = (scores == scores.max()) | (scores.sigmoid() >= params.min_probability)
            inputs = inputs | {"tags": found.nonzero()[:, 0].tolist()}
        size = inputs["height"], inputs["width"]
        image = self.normalise(inputs["image"])
        maps = mean_maps(
            self.probabilities, image, inputs["tags"], params.cam.scales, size, params.stride
        )
        return seed_from_inputs(inputs, {ICAM_MAP: maps.cpu().numpy()})

    def refiner(self) -> MapRefiner:
        """See :meth:`wsis.modeling.teacher.Maker.refiner`.

        Raises:
            ConfigError: a CRF is asked for, and none is installed.
        """
        params = self.params
        if params.crf_alphas:
            load_pydensecrf()
        return ICAMRefiner(params.stride, params.crf_alphas, params.crf, bool(self.label_names))
