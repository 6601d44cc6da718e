"""BAS as a teacher of image tags: it learns to classify and to tell the object from what is around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.modeling import META_ARCH_REGISTRY
from torchvision.transforms.functional import ten_crop

from wsis.config.params import read
from wsis.data.build import Mapper
from wsis.data.mapper import TagDatasetMapper
from wsis.data.tag_loader import (
    INTERPOLATIONS,
    TagCropParams,
    eval_transforms,
)
from wsis.errors import ConfigError
from wsis.layers.seeds import strided_sum
from wsis.methods.bas.backbones import TappedBackbone
from wsis.methods.bas.config import BASParams
from wsis.methods.bas.network import BASNetwork, combined
from wsis.methods.bas.refiner import BAS_MAP, BASRefiner
from wsis.methods.bas.training import training_losses
from wsis.modeling.class_maps import maps_over_scales
from wsis.modeling.method import parts_from_config
from wsis.modeling.parameter_groups import parameter_groups
from wsis.modeling.tag_learner import TagLearner
from wsis.modeling.teacher import MapRefiner, TagTeacher, seed_from_inputs
from wsis.structures import ScoreMaps, Seed
from wsis.structures.score_maps import STRETCHED


def network_from_config(cfg: CfgNode) -> dict[str, Any]:
    """What both meta-architectures are made of: ``network``, ``params``, ``pixel_mean`` and ``pixel_std``.

    Raises:
        ConfigError: a value out of its range, or a backbone without a tap.
    """
    parts, number = parts_from_config(cfg, BASParams), cfg.MODEL.ROI_HEADS.NUM_CLASSES
    params, backbone = parts["params"], parts.pop("backbone")
    if params.top_k > number:
        raise ConfigError(f"MODEL.BAS.TOP_K: found {params.top_k}, expected at most {number}")
    if not isinstance(backbone, TappedBackbone):
        raise ConfigError(
            f"MODEL.BACKBONE.NAME: found {cfg.MODEL.BACKBONE.NAME!r}, expected build_tapped_backbone: BAS taps a "
            "middle feature"
        )
    return parts | {"network": BASNetwork(backbone, number, params.head_channels, params.gain)}


@META_ARCH_REGISTRY.register()
class BAS(TagLearner, TagTeacher):
    """Background activation suppression on image tags.

    In generation it makes score maps of whole images. In evaluation it gives the map and the class scores of what
    ``INPUT.TAG_CROP.TEST`` shows, by which localisation is judged.
    """

    map_names = (BAS_MAP,)

    @configurable
    def __init__(
        self,
        *,
        network: BASNetwork,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        params: BASParams,
        whole: bool = False,
        crop: int = 224,
    ) -> None:
        """
        Args:
            network: trunk, generator, tail and head.
            pixel_mean, pixel_std: per channel, in ``INPUT.FORMAT``.
            params: of losses and maps.
            whole: what evaluation shows is the whole image in its own form.
            crop: side of each of the ten crops.
        """
        super().__init__()
        self.network = network
        self.params = params
        self.whole, self.crop = whole, crop
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BAS``, ``INPUT.TAG_CROP``, the number of classes and the keys of the backbone.

        Raises:
            ConfigError: a value out of its range, or a backbone without a tap.
        """
        crop = read(cfg, TagCropParams)
        if cfg.MODEL.BAS.TEN_CROP and crop.test != "centre":
            raise ConfigError(
                f"INPUT.TAG_CROP.TEST: found {crop.test!r}, expected centre with MODEL.BAS.TEN_CROP"
            )
        return network_from_config(cfg) | {"whole": crop.test == "whole", "crop": crop.size}

    @classmethod
    def needs_one_tag(cls, cfg: CfgNode) -> bool:
        """Localisation's cross-entropy does."""
        return read(cfg, BASParams).loss == "cross_entropy"

    @classmethod
    def test_mapper(cls, cfg: CfgNode) -> Mapper:
        """As ``INPUT.TAG_CROP.TEST`` says, with the tags; for ten crops the square that they are cut from."""
        transforms = eval_transforms(cfg)
        if cfg.MODEL.BAS.TEN_CROP:
            transforms = transforms[:1]
        return TagDatasetMapper(cfg, augmentations=transforms)

    def generation_mapper(self, cfg: CfgNode) -> Mapper:
        """The whole image: in its own form with ``INPUT.TAG_CROP.TEST`` "whole", else as a square of a crop's size."""
        if self.whole:
            return super().generation_mapper(cfg)
        params = read(cfg, TagCropParams)
        square = T.Resize(params.size, INTERPOLATIONS[params.interpolation])
        return TagDatasetMapper(cfg, augmentations=[square])

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Backbone, and head and generator; weights and biases, see :mod:`wsis.modeling.parameter_groups`."""
        return parameter_groups(self, self.network.backbone, cfg.SOLVER, self.params.lr_factors)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The losses in training mode, else the maps of the given classes and the scores of all.

        Args:
            batched_inputs: in training of :class:`wsis.data.tag_loader.TagMapper`; else of :meth:`test_mapper`.

        Returns:
            Losses: ``loss_cls``, ``loss_guidance``, ``loss_suppression``, ``loss_area``; or one dict per image:
            ``score_maps`` by name, of what evaluation shows; ``tags``, (K,) class scores.
        """
        if self.training:
            images = torch.stack([self.normalise(each["image"]) for each in batched_inputs])
            tags = torch.stack([each["tags"] for each in batched_inputs]).to(images.device)
            features = self.network.backbone.trunk(images)
            return training_losses(self.network, features, tags, self.params)[0]
        with torch.no_grad():
            return [self._view(inputs) for inputs in batched_inputs]

    def maps(self, images: torch.Tensor, tags: Sequence[int]) -> torch.Tensor:
        """Foreground maps of some classes; where these do not depend on scores, no more is computed than the maps.

        Args:
            images: (N, 3, h, w), normalised.
            tags: T classes.

        Returns:
            (N, T, h', w') in (0, 1).
        """
        features = self.network.backbone.trunk(images)
        if self.params.top_k == 1:
            return self.network.class_maps(features, tags)
        return self._combined(features, self._scores(features), len(tags))

    def _scores(self, features: torch.Tensor) -> torch.Tensor:
        return self.network.classifier(features).mean(dim=(2, 3))

    def _combined(self, features: torch.Tensor, scores: torch.Tensor, tags: int) -> torch.Tensor:
        """The map of the best classes, once for each tag."""
        number = self.params.top_k or scores.shape[1]
        maps = combined(self.network.foreground(features), scores, number)
        return maps.expand(-1, tags, -1, -1)

    def _view(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Maps of what is shown, and class scores."""
        image, tags = self.normalise(inputs["image"]), list(inputs["tags"])
        crops = torch.stack(ten_crop(image, [self.crop] * 2)) if self.params.ten_crop else None
        if crops is not None:
            image = crops[4]  # the centre; the mirror images come last
        height, width = image.shape[1:]
        if self.whole:
            height, width = inputs["height"], inputs["width"]
        features = self.network.backbone.trunk(image[None])
        scores = self._scores(features)
        shown = ScoreMaps.of_nothing(height, width)
        if tags:
            if self.params.top_k == 1:
                maps = self.network.class_maps(features, tags)
            else:
                maps = self._combined(features, scores, len(tags))
            labels = np.array(tags, dtype=np.int64) + 1
            shown = ScoreMaps(labels, maps[0].float().cpu().numpy(), height, width, STRETCHED)
        if crops is not None:
            scores = self._scores(self.network.backbone.trunk(crops)).softmax(dim=1).mean(0, True)
        return {"score_maps": {BAS_MAP: shown}, "tags": scores[0].float()}

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`wsis.modeling.teacher.Maker.propose`; a seed has the summed maps of the image's classes."""
        return [self._seed(inputs) for inputs in batched_inputs]

    def _seed(self, inputs: dict[str, Any]) -> Seed:
        tags = list(inputs["tags"])
        maps = maps_over_scales(
            lambda images: self.maps(images, tags).float(),
            self.normalise(inputs["image"]),
            self.params.scales,
        )
        summed = strided_sum(maps, inputs["height"], inputs["width"], self.params.stride)
        return seed_from_inputs(inputs, {BAS_MAP: summed.cpu().numpy()})

    def refiner(self) -> MapRefiner:
        """See :meth:`wsis.modeling.teacher.Maker.refiner`."""
        return BASRefiner(self.params.stride)
