"""PointRend's mask head on proxy masks: ignored pixels, and a score per mask."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY
from detectron2.projects.point_rend import PointRendMaskHead
from detectron2.projects.point_rend.mask_head import calculate_uncertainty
from detectron2.projects.point_rend.point_features import (
    get_point_coords_wrt_image,
    get_uncertain_point_coords_with_randomness,
)
from detectron2.structures import Boxes, Instances
from torch import Tensor

from wsis.config.params import read
from wsis.modeling.proxy_mask_head import (
    ScoreParams,
    log_accuracy,
    mask_targets,
    proxy_mask_loss,
)
from wsis.structures.run_masks import RunMasks


@ROI_MASK_HEAD_REGISTRY.register()
class ProxyPointRendMaskHead(PointRendMaskHead):
    """PointRend's mask head (Kirillov et al., CVPR 2020), whose losses of the coarse mask and of the points are those
    of :class:`wsis.modeling.proxy_mask_head.ProxyMaskHead`. Layers, choice of points and inference are the project's;
    the label of a point is that of the pixel that it lies in.

    Args:
        cfg: of the run; with ``MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK`` all classes share one mask.
        input_shape: shapes of the feature maps by name.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        if cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK:
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = 1
        super().__init__(cfg, input_shape)
        self.scores = read(cfg, ScoreParams)

    def forward(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """The losses in training; else PointRend's inference.

        Args:
            features: feature maps of the images by name.
            instances: see :func:`wsis.modeling.proxy_mask_head.mask_targets`.
        """
        if not self.training:
            return super().forward(features, instances)
        boxes = [each.proposal_boxes for each in instances]
        coarse = self.coarse_head(self._roi_pooler(features, boxes))
        targets = mask_targets(instances, coarse.shape[-1])
        weights = self.scores.weights(targets.scores)
        log_accuracy(coarse.detach(), targets, weights)
        losses = {"loss_mask": proxy_mask_loss(coarse, *targets[:3], weights)}
        if self.mask_point_on:
            places = self._uncertain_places(coarse.detach(), targets.classes)
            logits = self._get_point_logits(
                self._point_pooler(features, boxes, places), places, coarse
            )
            points = get_point_coords_wrt_image(Boxes.cat(boxes).tensor, places)
            labels, ignore = (
                values_at(instances, name, points)[..., None]
                for name in ("gt_masks", "gt_ignore_masks")
            )
            losses["loss_mask_point"] = proxy_mask_loss(
                logits[..., None], targets.classes, labels, ignore, weights
            )
        return losses

    def _uncertain_places(self, coarse: Tensor, classes: Tensor) -> Tensor:
        """(B, P, 2) in [0, 1], x and y: most of them where the coarse mask is least sure."""
        return get_uncertain_point_coords_with_randomness(
            coarse,
            lambda logits: calculate_uncertainty(logits, classes),
            self.mask_point_train_num_points,
            self.mask_point_oversample_ratio,
            self.mask_point_importance_sample_ratio,
        )


def values_at(instances: list[Instances], name: str, points: Tensor) -> Tensor:
    """What masks are in the pixels of points.

    Args:
        instances: per image, with B proposals in total.
        name: of a field of bit masks; images may lack it.
        points: (B, P, 2) x and y in pixels of the image.

    Returns:
        (B, P) bool; false where the image has none, or the point lies outside of it.
    """
    per_image = zip(instances, points.split([len(each) for each in instances]), strict=True)
    return torch.cat([_values_at(*pair, name) for pair in per_image])


def _values_at(instances: Instances, points: Tensor, name: str) -> Tensor:
    if not len(instances) or not instances.has(name):
        return torch.zeros(points.shape[:2], dtype=torch.bool, device=points.device)
    return RunMasks.of(instances.get(name)).at(points)
