"""A mask head that learns from proxy masks: ignored pixels, and a score per mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor
from torch.nn import functional as F

from wsis.config.params import check, key, node, part, read
from wsis.config.rules import at_least_below, one_of
from wsis.layers.feature_similarity import SimilarityParams

CELL = 8
"""Pixels of the image that the Gaussian of the feature-similarity loss counts as one cell."""


@node("MODEL.ROI_MASK_HEAD")
@dataclass(frozen=True)
class ScoreParams:
    """How the score of each mask enters the loss.

    Attributes:
        score_mode: How the score of each proxy mask enters the loss of "ProxyMaskHead" and of the heads made of it.
            "none": not at
            all, "weight": as the weight of the mask, "threshold": masks not above SCORE_THRESHOLD are left out. Masks
            of score 0 (status empty or failed) never enter it.
        score_threshold: Score that a mask must exceed to enter the mask loss with SCORE_MODE "threshold", in [0, 1).
    """

    score_mode: str = key("none", one_of(("none", "weight", "threshold")))
    score_threshold: float = key(0.0, at_least_below(0, 1))

    def weights(self, scores: Tensor) -> Tensor:
        """(B,) scores to (B,) weights of the masks in the loss."""
        if self.score_mode == "weight":
            return scores
        threshold = self.score_threshold if self.score_mode == "threshold" else 0.0
        return (scores > threshold).float()


@node("MODEL.ROI_MASK_HEAD")
@dataclass(frozen=True)
class MaskSimilarityParams:
    """A term of the loss of "ProxyMaskHead" and "PairMaskHead"."""

    similarity: SimilarityParams = part(
        SimilarityParams(weight=0.0),
        "SIMILARITY",
        f"The map is the mask of a proposal, and the Gaussian is measured in cells of {CELL} pixels of the image.",
    )


class MaskTargets(NamedTuple):
    """What B foreground proposals of a batch should predict.

    Attributes:
        classes: (B,) int64, contiguous.
        masks: (B, M, M) bool, the mask inside the proposal.
        ignore: (B, M, M) bool, cells that the loss skips.
        scores: (B,) float32 in [0, 1], 0 = no mask.
    """

    classes: Tensor
    masks: Tensor
    ignore: Tensor
    scores: Tensor


def proxy_mask_loss(
    logits: Tensor,
    classes: Tensor,
    targets: Tensor,
    ignore: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy over the cells that are not ignored, weighted per mask.

    L = sum_b w_b sum_(p kept in b) BCE(logit_bp, target_bp) / sum_b w_b |kept in b|. With equal
    weights it is the mean over all kept cells of the batch; without ignored cells that is the
    loss of Mask R-CNN. A common factor of all weights changes nothing.

    Args:
        logits: (B, C, M, M), or (B, 1, M, M) if the mask does not depend on the class.
        classes: (B,) int64, which of the C masks is meant.
        targets: (B, M, M) bool, or float in [0, 1].
        ignore: (B, M, M) bool, cells without gradient; default none.
        weights: (B,) float, at least 0; default 1.

    Returns:
        Scalar; 0 with zero gradients if nothing is kept.
    """
    chosen = select_class(logits, classes).float()
    loss = F.binary_cross_entropy_with_logits(chosen, targets.float(), reduction="none")
    cell_weights = torch.ones_like(loss)
    if weights is not None:
        cell_weights = cell_weights * weights[:, None, None]
    if ignore is not None:
        cell_weights = cell_weights.masked_fill(ignore, 0.0)
    total = cell_weights.sum().clamp(min=torch.finfo(torch.float32).tiny)
    return (loss * cell_weights).sum() / total


def select_class(logits: Tensor, classes: Tensor) -> Tensor:
    """The (B, M, M) logits of each proposal's own class, from (B, C, M, M) or (B, 1, M, M)."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(logits), device=logits.device), classes]


def mask_targets(instances: list[Instances], mask_size: int) -> MaskTargets:
    """Cuts the ground truth out for foreground proposals.

    A cell is a target, or ignored, if at least half of it is.

    Args:
        instances: per image, with `proposal_boxes` and `gt_classes`, and where the image has any
            `gt_masks`, `gt_ignore_masks`, `gt_scores`. Without `gt_masks` the score is 0.
        mask_size: M.
    """
    per_image = [_image_targets(image, mask_size) for image in instances]
    return MaskTargets(*(torch.cat(parts) for parts in zip(*per_image, strict=True)))


def cut_out(masks: BitMasks | None, instances: Instances, mask_size: int) -> Tensor:
    """(N, M, M) bool, each of N masks inside its proposal; nothing where there are none."""
    if masks is not None and len(instances):
        return masks.crop_and_resize(instances.proposal_boxes.tensor, mask_size)
    return instances.gt_classes.new_zeros((len(instances), mask_size, mask_size), dtype=torch.bool)


def _image_targets(instances: Instances, mask_size: int) -> MaskTargets:
    classes = instances.gt_classes
    has_masks = len(instances) > 0 and instances.has("gt_masks")

    def cut(name: str) -> Tensor:
        found = instances.get(name) if has_masks and instances.has(name) else None
        return cut_out(found, instances, mask_size)

    if has_masks and instances.has("gt_scores"):
        scores = instances.gt_scores
    else:
        scores = classes.new_full((len(instances),), float(has_masks), dtype=torch.float32)
    return MaskTargets(classes, cut("gt_masks"), cut("gt_ignore_masks"), scores)


def mask_similarity_loss(
    probabilities: Tensor, instances: list[Instances], params: SimilarityParams
) -> Tensor:
    """The feature-similarity loss of the masks of proposals, on the colours that the image has in them. Outside of its
    object's box a mask is background, so that the box's border is no edge.

    Args:
        probabilities: (B, M, M) of all proposals.
        instances: per image, with `proposal_boxes`, and where there are any `gt_boxes` and `gt_image`.
        params: weight and form.

    Returns:
        Scalar; 0 with zero gradients without proposals.
    """
    per_image = [each for each in instances if len(each)]
    if not per_image:
        return probabilities.sum() * 0.0
    size = probabilities.shape[-1]
    boxes = torch.cat([each.proposal_boxes.tensor for each in per_image]).float()
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    inside = probabilities * cells_in_boxes(per_image, size)
    y = torch.stack([inside, 1 - inside], dim=1)
    return params.loss(y, cell_colours(per_image, size), CELL * size / sides.flip(1))


def cells_in_boxes(instances: list[Instances], size: int) -> Tensor:
    """Which cells of proposals have their centre in the object's box.

    Args:
        instances: per image, each with proposals, their `proposal_boxes` and `gt_boxes`.
        size: M.

    Returns:
        (B, M, M) bool.
    """
    boxes = torch.cat([each.proposal_boxes.tensor for each in instances]).float()
    corners = torch.cat([each.gt_boxes.tensor for each in instances]).float()
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    centres = (torch.arange(size, device=boxes.device) + 0.5) / size
    places = boxes[:, :2, None] + sides[:, :, None] * centres  # (B, 2, M), x and y
    within = (places >= corners[:, :2, None]) & (places < corners[:, 2:, None])
    return within[:, 1, :, None] & within[:, 0, None]


def cell_colours(instances: list[Instances], size: int) -> Tensor:
    """What the image shows in the cells of proposals.

    Args:
        instances: per image, each with proposals, their `proposal_boxes` and `gt_image`.
        size: M.

    Returns:
        (B, 3, M, M) in [0, 1], in the order of `INPUT.FORMAT`.
    """
    parts = [each.gt_image.colours(each.proposal_boxes.tensor, size) for each in instances]
    return torch.cat(parts)


@ROI_MASK_HEAD_REGISTRY.register()
class ProxyMaskHead(MaskRCNNConvUpsampleHead):
    """Mask R-CNN's mask head, whose loss skips ignored pixels and heeds the score of each mask.

    Layers and inference are Detectron2's. On masks without ignored pixels and scores the loss is
    Detectron2's too, so it also trains on true masks. A subclass with another loss overrides
    :meth:`loss` and, if need be, :meth:`targets`; one with more or other losses :meth:`mask_losses`.

    Args:
        input_shape: shape of the RoI features.
        score_mode, score_threshold: see :class:`ScoreParams`.
        similarity: see :class:`MaskSimilarityParams`.
        kwargs: see :class:`MaskRCNNConvUpsampleHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        score_mode: str = ScoreParams.score_mode,
        score_threshold: float = ScoreParams.score_threshold,
        similarity: SimilarityParams = MaskSimilarityParams.similarity,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, **kwargs)
        check(ScoreParams(score_mode, score_threshold))
        self.score_mode = score_mode
        self.score_threshold = score_threshold
        self.similarity = similarity

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Detectron2's keys and those of :class:`ScoreParams` and :class:`MaskSimilarityParams`."""
        parts = vars(read(cfg, ScoreParams)) | vars(read(cfg, MaskSimilarityParams))
        return super().from_config(cfg, input_shape) | parts

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """The loss in training; else Detectron2's inference.

        Args:
            x: (B, C, h, w) RoI features.
            instances: see :func:`mask_targets`; B proposals in total.
        """
        if not self.training:
            return super().forward(x, instances)
        logits = self.layers(x)
        losses = self.mask_losses(logits, instances)
        if self.similarity.weight > 0:
            classes = torch.cat([each.gt_classes for each in instances])
            own = select_class(logits, classes).float().sigmoid()
            losses["loss_mask_similarity"] = mask_similarity_loss(own, instances, self.similarity)
        return losses

    def mask_losses(self, logits: Tensor, instances: list[Instances]) -> dict[str, Tensor]:
        """The weighted losses of the masks of a batch, by name.

        Args:
            logits: (B, C, M, M) or (B, 1, M, M).
            instances: see :func:`mask_targets`.
        """
        targets = self.targets(instances, logits.shape[-1])
        weights = self.mask_weights(targets.scores)
        log_accuracy(logits.detach(), targets, weights)
        return {"loss_mask": self.loss(logits, targets, weights) * self.loss_weight}

    def mask_weights(self, scores: Tensor) -> Tensor:
        """See :meth:`ScoreParams.weights`."""
        return ScoreParams(self.score_mode, self.score_threshold).weights(scores)

    def targets(self, instances: list[Instances], mask_size: int) -> MaskTargets:
        """See :func:`mask_targets`."""
        return mask_targets(instances, mask_size)

    def loss(self, logits: Tensor, targets: MaskTargets, weights: Tensor) -> Tensor:
        """The mask loss of a batch, a scalar.

        Args:
            logits: (B, C, M, M) or (B, 1, M, M).
            targets: of the B proposals.
            weights: (B,), see :meth:`mask_weights`.
        """
        return proxy_mask_loss(logits, targets.classes, targets.masks, targets.ignore, weights)


def log_accuracy(logits: Tensor, targets: MaskTargets, weights: Tensor) -> None:
    """Detectron2's `mask_rcnn/*` numbers, over the cells that enter the loss."""
    kept = ~targets.ignore & (weights > 0)[:, None, None]
    wrong = ((select_class(logits, targets.classes) > 0) != targets.masks) & kept
    inside = targets.masks & kept
    counts = torch.stack([v.sum() for v in (kept, inside, wrong, wrong & inside)]).tolist()
    n_kept, n_inside, n_wrong, n_missed = counts
    storage = get_event_storage()
    storage.put_scalar("mask_rcnn/accuracy", 1 - n_wrong / max(n_kept, 1))
    storage.put_scalar("mask_rcnn/false_positive", (n_wrong - n_missed) / max(n_kept - n_inside, 1))
    storage.put_scalar("mask_rcnn/false_negative", n_missed / max(n_inside, 1))
