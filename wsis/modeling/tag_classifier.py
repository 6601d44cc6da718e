"""A classifier of image tags whose classes have maps: features, a 1x1 convolution, the mean over the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone
from torch import nn

from wsis.config.params import key, node, read
from wsis.config.rules import length, one_of
from wsis.layers.tag_losses import TAG_LOSSES
from wsis.modeling.method import Result, parts_from_config
from wsis.modeling.parameter_groups import parameter_groups
from wsis.modeling.tag_learner import TagLearner


@node("MODEL.TAG_CLASSIFIER")
@dataclass(frozen=True)
class TagClassifierParams:
    """The meta-architectures "TagClassifier" and "CAM"; what they train on is
    :class:`wsis.data.tag_loader.TagCropParams`.

    Attributes:
        loss: The loss is "soft_margin" (the mean of each class's binary cross-entropy), "cross_entropy" (for images of
            one tag each) or "exclusive" (each tag against the classes that the image lacks).
        bias: The 1x1 convolution has a bias.
        lr_factors: Learning rate of the backbone's biases, of the classifier's weights and of its bias, in units of
            SOLVER.BASE_LR.
    """

    loss: str = key("soft_margin", one_of(TAG_LOSSES))
    bias: bool = key(False)
    lr_factors: tuple[float, float, float] = key(
        (1.0, 10.0, 10.0), length(3, "three numbers: bias, new weight, new bias")
    )


@META_ARCH_REGISTRY.register()
class TagClassifier(TagLearner):
    """A classifier of whole images. The mean over the image of a class's map is its score."""

    returns: Result = "tags"

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        params: TagClassifierParams,
    ) -> None:
        """
        Args:
            backbone: its last map is used.
            num_classes: C.
            pixel_mean, pixel_std: per channel, in ``INPUT.FORMAT``.
            params: of the classifier.
        """
        super().__init__()
        self.backbone = backbone
        self.feature, shape = list(backbone.output_shape().items())[-1]
        self.classifier = nn.Conv2d(shape.channels, num_classes, 1, bias=params.bias)
        self.params = params
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.TAG_CLASSIFIER``, ``MODEL.ROI_HEADS.NUM_CLASSES`` and Detectron2's keys of the backbone.

        Raises:
            ConfigError: a value out of its range.
        """
        number = {"num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}
        return parts_from_config(cfg, TagClassifierParams) | number

    @classmethod
    def needs_one_tag(cls, cfg: CfgNode) -> bool:
        """Cross-entropy does."""
        return read(cfg, TagClassifierParams).loss == "cross_entropy"

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Backbone and classifier, weights and biases, see :mod:`wsis.modeling.parameter_groups`."""
        return parameter_groups(self, self.backbone, cfg.SOLVER, self.params.lr_factors)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, h, w) to logits of the classes at each place (N, C, h', w')."""
        return self.classifier(self.backbone(images)[self.feature])

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The loss in training mode, else the scores.

        Args:
            batched_inputs: in training of :class:`wsis.data.tag_loader.TagMapper`; else dicts with ``image``
                (3, h, w) in ``INPUT.FORMAT``.

        Returns:
            ``loss_tags``; or one dict per image: ``tags``, (C,) logits.
        """
        if not self.training:
            return [{"tags": self.scores(each["image"][None])[0]} for each in batched_inputs]
        scores = self.scores(torch.stack([each["image"] for each in batched_inputs]))
        tags = torch.stack([each["tags"] for each in batched_inputs]).to(scores.device)
        return {"loss_tags": TAG_LOSSES[self.params.loss](scores, tags)}

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, h, w) in ``INPUT.FORMAT`` to logits (N, C)."""
        return self.maps(self.normalise(images)).mean((2, 3))
