"""The mask head of BBAM's student: a region of doubt that the head itself may settle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from wsis.config.params import key, node, read
from wsis.errors import ConfigError
from wsis.modeling.pair_mask_loss import (
    GROW_ABOVE,
    GROW_BELOW,
    balanced_mask_loss,
    pair_mask_loss,
    region_targets,
)
from wsis.modeling.proxy_mask_head import MaskTargets, ProxyMaskHead


@node("MODEL.ROI_MASK_HEAD")
@dataclass(frozen=True)
class GrowParams:
    """Where the head is sure of a cell in doubt.

    Attributes:
        grow_above: Mask head "PairMaskHead" (the one of BBAM's student) takes an ignored pixel for foreground where its
            own probability is above this.
        grow_below: Mask head "PairMaskHead" takes an ignored pixel for background where its own probability is below
            this.
    """

    grow_above: float = key(GROW_ABOVE)
    grow_below: float = key(GROW_BELOW)


@ROI_MASK_HEAD_REGISTRY.register()
class PairMaskHead(ProxyMaskHead):
    """:class:`ProxyMaskHead` with seeds that grow: see :func:`wsis.modeling.pair_mask_loss.pair_mask_loss`.

    Ignored pixels are the region of doubt. A batch without any (true masks, for example) has the
    balanced loss of foreground and background.

    Args:
        input_shape: shape of the RoI features.
        grow_above, grow_below: probabilities beyond which a cell in doubt is taken for foreground or background.
        kwargs: see :class:`ProxyMaskHead`; `score_mode` "weight" does not exist here, since the loss is a mean over the
            cells of all masks.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        grow_above: float = GROW_ABOVE,
        grow_below: float = GROW_BELOW,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, **kwargs)
        if self.score_mode == "weight":
            raise ConfigError(
                "MODEL.ROI_MASK_HEAD.SCORE_MODE: found 'weight', expected none or threshold with PairMaskHead"
            )
        if not 0 <= grow_below < grow_above <= 1:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.GROW_BELOW, GROW_ABOVE: found {grow_below}, {grow_above}, expected two rising "
                "numbers in [0, 1]"
            )
        self.grow_above, self.grow_below = grow_above, grow_below

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """The keys of :class:`ProxyMaskHead` and of :class:`GrowParams`."""
        return super().from_config(cfg, input_shape) | vars(read(cfg, GrowParams))

    def targets(self, instances: list[Instances], mask_size: int) -> MaskTargets:
        """See :func:`wsis.modeling.pair_mask_loss.region_targets`."""
        targets = super().targets(instances, mask_size)
        region = region_targets(instances, mask_size)
        return targets._replace(ignore=region & ~targets.masks)

    def loss(self, logits: Tensor, targets: MaskTargets, weights: Tensor) -> Tensor:
        """See :meth:`ProxyMaskHead.loss`; a mask of weight 0 is left out."""
        kept = weights > 0
        logits, classes = logits[kept], targets.classes[kept]
        masks, doubt = targets.masks[kept], targets.ignore[kept]
        grown = pair_mask_loss(
            logits, classes, masks, masks | doubt, self.grow_above, self.grow_below
        )
        return torch.where(doubt.any(), grown, balanced_mask_loss(logits, classes, masks))
