"""BANA's stages 1 and 2 as one meta-architecture: a classifier in training, pseudo labels in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import nn

from wsis.config.params import read
from wsis.data.build import Batches, training_dicts
from wsis.data.crop_loader import build_loader
from wsis.data.crop_transform import CropParams
from wsis.errors import ConfigError
from wsis.layers.dense_crf import load_pydensecrf
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.methods.bana.coco import VOC_ROWS, voc_rows
from wsis.methods.bana.config import BANAParams
from wsis.methods.bana.lattice import box_lattice, unit_boxes
from wsis.methods.bana.loader import CropMapper
from wsis.methods.bana.pooling import (
    background_aware_pooling,
    classification_targets,
)
from wsis.methods.bana.pseudo_labels import LABELS
from wsis.methods.bana.refiner import FEATURES, BANARefiner
from wsis.modeling.parameter_groups import parameter_groups
from wsis.modeling.segmentor import number_of_classes
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import Seed


@META_ARCH_REGISTRY.register()
class BANAClassifier(Teacher):
    """A classifier of box features that are pooled without their background (Oh et al., CVPR 2021).

    In training mode it learns from boxes with classes; in eval mode its features give two semantic pseudo labels and
    one mask per box.
    """

    needs_void = True
    result_keys = ("MODEL", "INPUT", "PROXY.SEM_SEG")
    result_packages = ("pydensecrf",)

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        rows: Sequence[int | None],
        num_rows: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        params: BANAParams,
        sem_seg: bool = False,
    ) -> None:
        """
        Args:
            backbone: its last map is used.
            rows: of each class, its row of the classifier; None = the classifier does not know it.
            num_rows: of the classifier, background included.
            pixel_mean, pixel_std: per channel, in ``INPUT.FORMAT``.
            params: of the pooling and of what is made of its features.
            sem_seg: also make the semantic labels.
        """
        super().__init__()
        self.backbone = backbone
        self.feature, shape = list(backbone.output_shape().items())[-1]
        self.classifier = nn.Conv2d(shape.channels, num_rows, 1, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.01)
        self.rows = tuple(rows)
        self.params = params
        self.pooling = replace(params.pooling, aware=params.kind == "bap")
        self.label_names = LABELS if sem_seg else ()
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def check_requirements(cls) -> None:
        """See :meth:`Teacher.check_requirements`."""
        load_pydensecrf()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BANA``, ``PROXY.SEM_SEG`` and Detectron2's keys of the backbone.

        Raises:
            ConfigError: a value out of its range, or more classes than a label in one byte can name.
        """
        params = read(cfg, BANAParams)
        read(cfg, CropParams)  # to check them before any training
        number = number_of_classes(cfg)
        known = params.voc_classifier
        return {
            "backbone": build_backbone(cfg),
            "rows": voc_rows(number - 1) if known else range(1, number),
            "num_rows": VOC_ROWS if known else number,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "params": params,
            "sem_seg": cfg.PROXY.SEM_SEG,
        }

    @classmethod
    def match_classes(cls, cfg: CfgNode, own: Sequence[str], known: Sequence[str]) -> None:
        """See :meth:`wsis.modeling.method.Method.match_classes`; VOC's classifier knows COCO's classes by their ids."""
        if not cfg.MODEL.BANA.VOC_CLASSIFIER:
            super().match_classes(cfg, own, known)

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """Raises ConfigError or DataError where the training would, before it starts."""
        cls._training_parts(cfg)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """Endless batches of :class:`wsis.methods.bana.loader.CropMapper`.

        Raises:
            ConfigError, DataError: the config or the data are not to be trained on.
        """
        return build_loader(cfg, *cls._training_parts(cfg))

    @classmethod
    def _training_parts(cls, cfg: CfgNode) -> tuple[list[dict[str, Any]], CropMapper]:
        if cfg.MODEL.BANA.VOC_CLASSIFIER:
            raise ConfigError("MODEL.BANA.VOC_CLASSIFIER: found True, expected False in training")
        if cfg.WSIS.SUPERVISION == "image":
            raise ConfigError(
                f"WSIS.SUPERVISION: found 'image', expected box: {cls.__name__} learns from boxes"
            )
        return training_dicts(cfg), CropMapper(cfg)

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Backbone and classifier, weights and biases, see :mod:`wsis.modeling.parameter_groups`."""
        return parameter_groups(self, self.backbone, cfg.SOLVER, cfg.MODEL.BANA.LR_FACTORS)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The loss in training mode, else see :meth:`Teacher.forward`.

        Args:
            batched_inputs: in training of :class:`wsis.methods.bana.loader.CropMapper`, crops of one size.

        Returns:
            ``loss_cls``: mean cross-entropy of all windows of all boxes and of all queries.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images = torch.stack([self.normalise(inputs["image"]) for inputs in batched_inputs])
        masks = torch.stack([inputs["background"] for inputs in batched_inputs])
        features = self.backbone(images)[self.feature]
        with torch.autocast(features.device.type, enabled=False):
            return {"loss_cls": self._loss(features.float(), masks, batched_inputs)}

    def _loss(
        self, features: torch.Tensor, masks: torch.Tensor, batched_inputs: list[dict[str, Any]]
    ) -> torch.Tensor:
        instances = [inputs["instances"] for inputs in batched_inputs]
        boxes = torch.cat([each.gt_boxes.tensor for each in instances]).cpu()
        counts = torch.tensor([len(each) for each in instances])
        image = torch.arange(len(instances)).repeat_interleave(counts)
        params = self.pooling
        # points are laid out on the CPU, where the boxes are, so that a GPU never waits for sizes
        lattice = box_lattice(
            unit_boxes(boxes, (masks.shape[1], masks.shape[2])),
            image,
            (features.shape[2], features.shape[3]),
            params.roi_size,
            params.align_corners,
        ).to(features.device)
        masks = masks.to(features.device, non_blocking=True).float()
        pooled = background_aware_pooling(
            features, masks, lattice, params.grid_size, params.min_background, params.aware
        )
        classes = torch.cat([each.gt_classes for each in instances]).to(features.device) + 1
        targets = classification_targets(classes, pooled.windows.shape[1], pooled.valid)
        rows = torch.cat([pooled.windows.flatten(0, 1), pooled.queries.flatten(0, 1)])
        return mean_cross_entropy(rows @ self.classifier.weight[:, :, 0, 0].T, targets)

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; a seed has the image's features, on which the refiner does the rest."""
        seeds = []
        for inputs in batched_inputs:
            features = self.backbone(self.normalise(inputs["image"])[None])[self.feature][0]
            maps = {FEATURES: features.float().cpu().numpy()}
            seeds.append(seed_from_inputs(inputs, maps))
        return seeds

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        self.check_requirements()
        return BANARefiner(
            weights=self.classifier.weight[:, :, 0, 0].detach().float().cpu().numpy(),
            rows=self.rows,
            params=self.params,
            sem_seg=bool(self.label_names),
        )
