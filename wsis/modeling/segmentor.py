"""A semantic network of parts: backbone, head, classifier, loss and test protocols, trained on label folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import nn

from wsis.config.params import key, node, part, read
from wsis.config.rules import Rule, above, above_at_most, at_least, each, length, one_of, positive
from wsis.data.build import Batches
from wsis.data.crop_loader import build_loader
from wsis.data.label_loader import LabelMapper, check_labelled_data, training_records
from wsis.errors import ConfigError
from wsis.layers.deeplab import (
    AtrousSum,
    CosineClassifier,
    LargeFOV,
    LinearClassifier,
    resize_scores,
)
from wsis.layers.dense_crf import load_pydensecrf
from wsis.layers.feature_similarity import SimilarityParams, colours_at
from wsis.layers.norms import NORMS, batch_norm
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.modeling.method import Method
from wsis.modeling.parameter_groups import parameter_groups
from wsis.modeling.semantic_inference import ProtocolParams, label_image
from wsis.structures.pseudo_labels import IGNORE

HEAD_NORMS = NORMS[1:]  # new layers have no statistics to keep
CLASSIFIERS = {"cosine": CosineClassifier, "linear": LinearClassifier}


@node("MODEL.SEGMENTOR")
@dataclass(frozen=True)
class SegmentorParams:
    """The network and what it is asked for; what it trains on is :class:`wsis.data.label_loader.LabelledDataParams`.

    Attributes:
        head: With "none" the classifier stands on the backbone's last map (DeepLab-V1 on VGG-16, whose fc6 and fc7 are
            the backbone's), with "largefov" on a dilated convolution and a 1x1 one (DeepLab-V1 on other backbones),
            with "aspp" on the sum of dilated branches (DeepLab-V2).
        head_channels: Channels of the heads "largefov" and "aspp".
        head_rates: Dilations of the branches of "aspp"; "largefov" takes the second one.
        head_norm: What batch norms after the convolutions of "largefov", which then have no biases, do in training:
            "statistics" (each batch's own, scales and shifts stay; ICAM) or "trained"; "" = none.
        head_norm_momentum: Share of a batch in their running statistics.
        classifier: The scores are "cosine" similarities or "linear" functions of the features.
        temperature: Scores are multiplied with the temperature T before every softmax; 20 suits cosines, 1 linear ones.
        lr_factors: Learning rate of the backbone's biases, of the head's weights and of the head's biases, in units of
            SOLVER.BASE_LR. SOLVER.WEIGHT_DECAY_BIAS is the biases' weight decay.
    """

    head: str = key("none", one_of(("none", "largefov", "aspp")))
    head_channels: int = key(256, at_least(1))
    head_rates: tuple[int, ...] = key(
        (6, 12, 18, 24), each("one or more numbers above 0", positive)
    )
    head_norm: str = key(
        "", Rule(f'"" or one of {", ".join(HEAD_NORMS)}', ("", *HEAD_NORMS).__contains__)
    )
    head_norm_momentum: float = key(0.1, above_at_most(0, 1))
    classifier: str = key("cosine", one_of(CLASSIFIERS))
    temperature: float = key(20.0, above(0))
    lr_factors: tuple[float, float, float] = key(
        (2.0, 10.0, 20.0), length(3, "three numbers: bias, new weight, new bias")
    )
    similarity: SimilarityParams = part(
        SimilarityParams(weight=0.0),
        "SIMILARITY",
        "The map is that of the scores before they are enlarged.",
    )
    protocols: ProtocolParams = part(ProtocolParams())

    def head_module(self, channels: int) -> nn.Module:
        """The head on a map of so many channels."""
        if self.head == "aspp":
            return AtrousSum(channels, self.head_channels, self.head_rates)
        if self.head == "none":
            return nn.Identity()
        norm = None
        if self.head_norm:
            norm = partial(batch_norm, self.head_norm, momentum=self.head_norm_momentum)
        return LargeFOV(channels, self.head_channels, self.head_rates[:2][-1], norm)


def number_of_classes(cfg: CfgNode) -> int:
    """``MODEL.SEM_SEG_HEAD.NUM_CLASSES``, background included.

    Raises:
        ConfigError: less than two, or more than a label in one byte can name.
    """
    number = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if not 2 <= number <= IGNORE:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES: found {number}, expected 2 to {IGNORE}, background included"
        )
    return int(number)


@META_ARCH_REGISTRY.register()
class Segmentor(Method):
    """A semantic network of the DeepLab kind, trained with cross-entropy on one label of each image, and maybe with the
    feature-similarity loss of its probabilities.

    Attributes:
        num_labels: label maps of an image that the loss takes.
    """

    returns = "sem_seg"
    needs_original_image = True  # for the CRF
    num_labels = 1

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        classifier: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        protocols: ProtocolParams,
        similarity: SimilarityParams,
    ) -> None:
        """
        Args:
            backbone: its last map is used.
            head: between backbone and classifier.
            classifier: of the classes and background.
            pixel_mean, pixel_std: per channel, in ``INPUT.FORMAT``.
            protocols: what is made in eval mode.
            similarity: a term of the loss.

        Raises:
            ConfigError: a protocol needs a CRF, and none is installed.
        """
        super().__init__()
        if protocols.needs_crf:
            load_pydensecrf()
        self.backbone, self.head, self.classifier = backbone, head, classifier
        self.protocols, self.similarity = protocols, similarity
        self._feature = list(backbone.output_shape())[-1]
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.SEGMENTOR`` and Detectron2's keys of the backbone.

        Raises:
            ConfigError: a value out of its range.
        """
        params = read(cfg, SegmentorParams)
        backbone = build_backbone(cfg)
        channels = list(backbone.output_shape().values())[-1].channels
        head = params.head_module(channels)
        channels = channels if params.head == "none" else params.head_channels
        return {
            "backbone": backbone,
            "head": head,
            "classifier": CLASSIFIERS[params.classifier](channels, number_of_classes(cfg)),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "protocols": replace(params.protocols, temperature=params.temperature),
            "similarity": params.similarity,
        }

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """See :func:`wsis.data.label_loader.check_labelled_data`."""
        check_labelled_data(cfg, cls.num_labels)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """Endless batches of :class:`wsis.data.label_loader.LabelMapper`.

        Raises:
            ConfigError, DataError: see :func:`wsis.data.label_loader.training_records`.
        """
        records = training_records(cfg, cls.num_labels)
        return build_loader(cfg, records, LabelMapper(cfg))

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """See :mod:`wsis.modeling.parameter_groups`; the backbone is what is pretrained."""
        return parameter_groups(self, self.backbone, cfg.SOLVER, cfg.MODEL.SEGMENTOR.LR_FACTORS)

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, h, w) to scores (N, C, h', w')."""
        features = self.head(self.backbone(images)[self._feature])
        # in half precision a pixel without any feature would give the classifier a gradient of infinity times 0
        with torch.autocast(features.device.type, enabled=False):
            return self.classifier(features.float())

    def losses(self, scores: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses by name.

        Args:
            scores: (N, C, H, W), without T.
            labels: (N, :attr:`num_labels`, H, W) uint8, 255 = left out.
        """
        return {"loss_ce": mean_cross_entropy(scores, labels[:, 0], self.protocols.temperature)}

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """In training the losses, else the label maps.

        Args:
            batched_inputs: in training as :class:`wsis.data.label_loader.LabelMapper` makes them, all of one size; else
                ``image`` (3, h, w) in ``INPUT.FORMAT``, ``height`` and ``width`` of the original, and
                ``original_image`` (H, W, 3) uint8 RGB.

        Returns:
            The losses by name; or one dict per image: ``sem_seg`` (C, H, W) probabilities at the original size, of the
            first protocol before any CRF, and ``sem_seg_labels``, protocol to label map: (H, W) uint8, or an object
            that ``numpy.asarray`` turns into one, by a CRF.
        """
        if not self.training:
            return [self._label(inputs) for inputs in batched_inputs]
        images = torch.stack([self.normalise(each["image"]) for each in batched_inputs])
        labels = torch.stack([each["labels"] for each in batched_inputs]).to(self.device)
        scores, size = self.scores(images), (images.shape[2], images.shape[3])
        losses = self.losses(resize_scores(scores, size), labels)
        if self.similarity.weight > 0:
            small = (scores.shape[2], scores.shape[3])
            colours = colours_at(images, self.pixel_mean, self.pixel_std, small)
            y = (self.protocols.temperature * scores).softmax(dim=1)
            losses["loss_similarity"] = self.similarity.loss(y, colours)
        return losses

    @torch.no_grad()
    def _label(self, inputs: dict[str, Any]) -> dict[str, Any]:
        image = self.normalise(inputs["image"])
        size = inputs["height"], inputs["width"]
        scores, labels = label_image(
            self.scores, image, size, self.protocols, inputs.get("original_image")
        )
        return {"sem_seg": scores, "sem_seg_labels": labels}
