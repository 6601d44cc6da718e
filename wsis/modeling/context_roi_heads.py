"""RoI heads whose mask head sees more than the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import roi_align

from wsis.config.params import check, key, node, read
from wsis.config.rules import at_least


@node("MODEL.ROI_MASK_HEAD")
@dataclass(frozen=True)
class ContextParams:
    """What RoI heads "ContextROIHeads" show their mask head.

    Attributes:
        pooler_context: Sides of the window that "ContextROIHeads" show their mask head, in sides of the box; 1 = the
            box, as Mask R-CNN.
    """

    pooler_context: float = key(1.0, at_least(1))


@ROI_HEADS_REGISTRY.register()
class ContextROIHeads(StandardROIHeads):
    """Mask R-CNN's heads with masks of a window around each box. What surrounds an object is a mask's background then,
    which losses that know boxes only have nothing else to learn from. Masks are cut to the box when they are made, so
    that they are pasted as Mask R-CNN's; so are names and shapes of weights.

    Args:
        context: see :class:`ContextParams`.
        args, kwargs: see ``StandardROIHeads``.
    """

    @configurable
    def __init__(self, *args: Any, context: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check(ContextParams(context))
        self.context = context

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Any) -> dict[str, Any]:
        """Detectron2's keys and those of :class:`ContextParams`."""
        own = {"context": read(cfg, ContextParams).pooler_context}
        return super().from_config(cfg, input_shape) | own

    def _forward_mask(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """See ``StandardROIHeads``: it, on windows in the place of boxes."""
        if not self.mask_on:
            return super()._forward_mask(features, instances)
        name = "proposal_boxes" if self.training else "pred_boxes"
        windows = [self._on_windows(each, name) for each in instances]
        found = super()._forward_mask(features, windows)
        if self.training:
            return found
        for each, window in zip(instances, windows, strict=True):
            each.pred_masks = cut_to_boxes(
                window.pred_masks, window.pred_boxes.tensor, each.pred_boxes.tensor
            )
        return instances

    def _on_windows(self, instances: Instances, name: str) -> Instances:
        fields = instances.get_fields()
        windows = windows_around(fields[name].tensor, self.context, instances.image_size)
        return Instances(instances.image_size, **{**fields, name: Boxes(windows)})


def windows_around(boxes: Tensor, scale: float, image_size: Sequence[int]) -> Tensor:
    """Boxes enlarged around their centres, and cut to the image.

    Args:
        boxes: (N, 4) XYXY.
        scale: of the sides.
        image_size: height and width.
    """
    margin = (scale - 1) / 2 * (boxes[:, 2:] - boxes[:, :2])
    windows = Boxes(torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], dim=1))
    windows.clip((image_size[0], image_size[1]))
    return windows.tensor


def cut_to_boxes(masks: Tensor, windows: Tensor, boxes: Tensor) -> Tensor:
    """Of masks of windows the part in a box, bilinear, at the same size.

    Args:
        masks: (N, C, M, M).
        windows: (N, 4) XYXY.
        boxes: (N, 4) XYXY, each in its window.
    """
    if not len(masks):
        return masks
    size = masks.shape[-1]
    cells = (windows[:, 2:] - windows[:, :2]).clamp(min=1e-3).repeat(1, 2) / size
    places = (boxes - windows[:, :2].repeat(1, 2)) / cells
    rois = torch.cat([torch.arange(len(masks)).to(places)[:, None], places], dim=1)
    return roi_align(masks, rois.to(masks), (size, size), sampling_ratio=1, aligned=True)
