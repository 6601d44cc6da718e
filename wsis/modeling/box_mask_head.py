"""A mask head that learns from boxes: alone, or beside proxy masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor

from wsis.config.params import check, key, node, read
from wsis.config.rules import above_at_most, at_least
from wsis.layers.box_losses import affinity_loss, cielab, outside_loss, projection_loss
from wsis.modeling.proxy_mask_head import (
    ProxyMaskHead,
    cell_colours,
    cells_in_boxes,
    select_class,
)


@node("MODEL.ROI_MASK_HEAD.BOX")
@dataclass(frozen=True)
class BoxLossParams:
    """The losses of mask head "BoxMaskHead"; the defaults are BoxInst's.

    Attributes:
        projection_weight: Mask head "BoxMaskHead": weight of the loss by which the projections of a mask on both axes
            are those of its box.
        affinity_weight: Mask head "BoxMaskHead": weight of the loss by which neighbours of one colour have one label.
        affinity_warmup: Iterations over which AFFINITY_WEIGHT grows from 0 to its value.
        affinity_distance: Distance of neighbours, in cells of a proposal's mask.
        affinity_threshold: Similarity exp(-difference / 2) from which two colours (CIELAB) are one.
        mask_weight: Mask head "BoxMaskHead": weight of the loss of "ProxyMaskHead" on masks; 0 = it needs none, and
            WSIS.SUPERVISION may be "box".
        outside_weight: Mask head "BoxMaskHead": weight of the loss by which what lies outside of the box is background;
            not BoxInst's. It wants "ContextROIHeads", which show what lies there.
    """

    projection_weight: float = key(1.0, at_least(0))
    affinity_weight: float = key(1.0, at_least(0))
    affinity_warmup: int = key(10000, at_least(0))
    affinity_distance: int = key(2, at_least(1))
    affinity_threshold: float = key(0.3, above_at_most(0, 1))
    mask_weight: float = key(0.0, at_least(0))
    outside_weight: float = key(0.0, at_least(0))

    def affinity_weight_at(self, iteration: int) -> float:
        """The weight after so many iterations."""
        return self.affinity_weight * min(iteration / max(self.affinity_warmup, 1), 1.0)


@ROI_MASK_HEAD_REGISTRY.register()
class BoxMaskHead(ProxyMaskHead):
    """:class:`ProxyMaskHead` with BoxInst's losses (Tian et al., CVPR 2021) on the masks of proposals: their map is the
    proposal, in which the object's box and the image's colours are looked at.

    Args:
        input_shape: shape of the RoI features.
        box: weights and form.
        image_format: "RGB" or "BGR", of the images.
        kwargs: see :class:`ProxyMaskHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        box: BoxLossParams = BoxLossParams(),  # noqa: B008  # frozen
        image_format: str = "RGB",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, loss_weight=box.mask_weight, **kwargs)
        check(box)
        self.box, self.image_format = box, image_format

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """The keys of :class:`ProxyMaskHead` and of :class:`BoxLossParams`."""
        own = {"box": read(cfg, BoxLossParams), "image_format": cfg.INPUT.FORMAT}
        return super().from_config(cfg, input_shape) | own

    def mask_losses(self, logits: Tensor, instances: list[Instances]) -> dict[str, Tensor]:
        """See :meth:`ProxyMaskHead.mask_losses`; the instances also have `gt_boxes`, and `gt_image` where colours
        count. Without ``MASK_WEIGHT`` no mask is looked at.
        """
        losses = super().mask_losses(logits, instances) if self.loss_weight > 0 else {}
        return losses | self._box_losses(logits, [each for each in instances if len(each)])

    def _box_losses(self, logits: Tensor, instances: list[Instances]) -> dict[str, Tensor]:
        """Those that have a weight; 0 with zero gradients without proposals."""
        box = self.box
        weights = {
            "loss_projection": box.projection_weight,
            "loss_outside": box.outside_weight,
            "loss_affinity": box.affinity_weight,
        }
        names = [name for name, weight in weights.items() if weight > 0]
        if not instances:
            return {name: logits.float().sum() * 0.0 for name in names}
        own, inside = _own_and_inside(logits, instances)
        weights["loss_affinity"] = box.affinity_weight_at(get_event_storage().iter)
        terms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "loss_projection": projection_loss,
            "loss_outside": outside_loss,
            "loss_affinity": partial(self._affinity, instances),
        }
        return {name: weights[name] * terms[name](own, inside).mean() for name in names}

    def _affinity(self, instances: list[Instances], own: Tensor, inside: Tensor) -> Tensor:
        """(B,) losses of the proposals."""
        colours = cell_colours(instances, own.shape[-1])
        return affinity_loss(
            own,
            cielab(colours.flip(1) if self.image_format == "BGR" else colours),
            inside,
            distance=self.box.affinity_distance,
            threshold=self.box.affinity_threshold,
        )


def _own_and_inside(logits: Tensor, instances: list[Instances]) -> tuple[Tensor, Tensor]:
    """(B, 1, M, M) logits of each proposal's class, and which cells lie in the object's box."""
    classes = torch.cat([each.gt_classes for each in instances])
    inside = cells_in_boxes(instances, logits.shape[-1])
    return select_class(logits, classes)[:, None], inside[:, None]
