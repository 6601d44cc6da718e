"""Mask heads of a few channels, and proposals for them."""

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from wsis.modeling.proxy_mask_head import ProxyMaskHead
from wsis.structures.run_masks import RunMasks


def head(kind: type[ProxyMaskHead] = ProxyMaskHead, **options: Any) -> ProxyMaskHead:
    """Three classes, features (4, 3, 3), masks of 6 x 6."""
    shape = ShapeSpec(channels=4, height=3, width=3)
    return kind(shape, num_classes=3, conv_dims=[4, 4], **options)


def proposals(
    number: int = 4,
    masks: type[BitMasks] | None = RunMasks,
    size: tuple[int, int] = (40, 50),
    **fields: Any,
) -> Instances:
    """Foreground proposals of one image, 12 to 22 pixels wide, with random masks."""
    corner = torch.rand(number, 2) * 15
    boxes = Boxes(torch.cat([corner, corner + 12 + torch.rand(number, 2) * 10], dim=1))
    instances = Instances(size, proposal_boxes=boxes, gt_classes=torch.arange(number) % 3, **fields)
    if masks is not None:
        instances.gt_masks = masks(torch.rand(number, *size) < 0.5)
    return instances


def loss_of(model: ProxyMaskHead, features: torch.Tensor, instances: list[Instances]) -> Any:
    """The head's loss in training."""
    with EventStorage():
        return model(features, instances)["loss_mask"]
