"""BANA's third stage: DeepLab with a classifier by cosine, trained on two pseudo labels at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import nn

from wsis.data.images import check_image_files
from wsis.data.labels import check_truth
from wsis.data.registration import get_source
from wsis.layers.deeplab import AtrousSum, CosineClassifier, resize_scores
from wsis.layers.dense_crf import load_pydensecrf
from wsis.methods.bana.config import number_of_classes
from wsis.methods.bana.crop_loader import build_loader
from wsis.methods.bana.nal import LOSSES, NoiseParams
from wsis.methods.bana.parameter_groups import parameter_groups
from wsis.methods.bana.seg_config import check_seg_keys, noise_params, protocol_params
from wsis.methods.bana.seg_inference import ProtocolParams, label_image
from wsis.methods.bana.seg_loader import LabelPairMapper, training_records


@META_ARCH_REGISTRY.register()
class BANASegmentor(nn.Module):
    """DeepLab-V1 LargeFOV or DeepLab-V2 (spec 3), depending on backbone and head.

    Attributes:
        makes_semantic_maps: for the choice of the evaluator.
        needs_original_image: inputs in eval mode have ``original_image``, for the CRF.
    """

    makes_semantic_maps = True
    needs_original_image = True
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: AtrousSum | None,
        classifier: CosineClassifier,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        loss: str,
        noise: NoiseParams,
        protocols: ProtocolParams,
    ) -> None:
        """
        Args:
            backbone: its last map is used.
            head: between backbone and classifier; None = nothing.
            classifier: of the classes and background.
            pixel_mean, pixel_std: per channel, in ``INPUT.FORMAT``.
            loss: one of :data:`wsis.methods.bana.nal.LOSSES`.
            noise: constants of the loss.
            protocols: what is made in eval mode.

        Raises:
            ConfigError: a protocol needs a CRF, and none is installed.
        """
        super().__init__()
        if protocols.needs_crf:
            load_pydensecrf()
        self.backbone = backbone
        self.head = head if head is not None else nn.Identity()
        self.classifier = classifier
        self.loss = LOSSES[loss]
        self.noise = noise
        self.protocols = protocols
        self._feature = list(backbone.output_shape())[-1]
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BANA_SEG`` and Detectron2's keys of the backbone.

        Raises:
            ConfigError: a value out of its range.
        """
        keys = cfg.MODEL.BANA_SEG
        check_seg_keys(keys)
        backbone = build_backbone(cfg)
        channels = list(backbone.output_shape().values())[-1].channels
        head = None
        if keys.HEAD == "aspp":
            head = AtrousSum(channels, keys.ASPP_CHANNELS, keys.ASPP_RATES)
            channels = keys.ASPP_CHANNELS
        return {
            "backbone": backbone,
            "head": head,
            "classifier": CosineClassifier(channels, number_of_classes(cfg)),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "loss": keys.LOSS,
            "noise": noise_params(keys),
            "protocols": protocol_params(keys),
        }

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """Raises ConfigError or DataError where the training would, before it starts."""
        training_records(cfg)
        LabelPairMapper(cfg)
        for name in cfg.MODEL.BANA.STRONG_DATASETS:
            check_image_files(get_source(name, bad_box="skip", need_boxes=False))
        for name in () if cfg.TEST.SAVE_LABELS else cfg.DATASETS.TEST:
            check_truth(name)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[dict[str, torch.Tensor]]]:
        """Endless batches of :class:`wsis.methods.bana.seg_loader.LabelPairMapper`.

        Raises:
            ConfigError, DataError: see :func:`wsis.methods.bana.seg_loader.training_records`.
        """
        return build_loader(cfg, training_records(cfg), LabelPairMapper(cfg))

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """See :func:`wsis.methods.bana.parameter_groups.parameter_groups`; the backbone is what is pretrained."""
        return parameter_groups(self, self.backbone, cfg.SOLVER, cfg.MODEL.BANA_SEG.LR_FACTORS)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.pixel_mean.device

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, h, w) to cosines (N, C, h / 8, w / 8)."""
        features = self.head(self.backbone(images)[self._feature])
        # in half precision a pixel without any feature would give the classifier a gradient of infinity times 0
        with torch.autocast(features.device.type, enabled=False):
            return self.classifier(features.float())

    def _normalised(self, image: torch.Tensor) -> torch.Tensor:
        return (image.to(self.device) - self.pixel_mean) / self.pixel_std

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """In training the losses, else the label maps.

        Args:
            batched_inputs: in training as :class:`wsis.methods.bana.seg_loader.LabelPairMapper` makes them, all of one
                size; else ``image`` (3, h, w) in ``INPUT.FORMAT``, ``height`` and ``width`` of the original, and
                ``original_image`` (H, W, 3) uint8 RGB.

        Returns:
            The losses by name; or one dict per image: ``sem_seg`` (C, H, W) probabilities at the original size, of the
            first protocol before any CRF, and ``sem_seg_labels``, protocol to label map: (H, W) uint8, or an object
            that ``numpy.asarray`` turns into one, by a CRF.
        """
        if not self.training:
            return [self._label(inputs) for inputs in batched_inputs]
        images = torch.stack([self._normalised(each["image"]) for each in batched_inputs])
        y_crf, y_ret = (
            torch.stack([each[name] for each in batched_inputs]).to(self.device)
            for name in ("y_crf", "y_ret")
        )
        logits = resize_scores(self.scores(images), (images.shape[-2], images.shape[-1]))
        return self.loss(logits, y_crf, y_ret, self.noise)

    @torch.no_grad()
    def _label(self, inputs: dict[str, Any]) -> dict[str, Any]:
        image = self._normalised(inputs["image"])
        size = inputs["height"], inputs["width"]
        scores, labels = label_image(
            self.scores, image, size, self.protocols, inputs.get("original_image")
        )
        return {"sem_seg": scores, "sem_seg_labels": labels}
