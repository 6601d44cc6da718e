"""Box mode with a shared trunk: regions around boxes, cut out of the tapped features of whole images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor
from torchvision.ops import roi_align

from wsis.data.crops import context_windows
from wsis.methods.bas.box_loader import in_windows
from wsis.methods.bas.config import BASBoxParams


class Regions(NamedTuple):
    """Regions of one image.

    Attributes:
        windows: (N, 4) XYXY in pixels of the image; they may reach beyond it.
        boxes: (N, 4) XYXY in units of the windows' sides.
        classes: (N,) int64.
    """

    windows: Tensor
    boxes: Tensor
    classes: Tensor


def drawn_regions(instances: Instances, params: BASBoxParams) -> Regions:
    """What a training step sees of an image: boxes that are large enough, each with a context of its own.

    Args:
        instances: on the CPU, with `gt_boxes` and `gt_classes`.
        params: how many and how large.
    """
    boxes = instances.gt_boxes.tensor
    large = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= params.min_side
    own = large.nonzero()[:, 0]
    own = own[torch.randperm(len(own))[: params.boxes_per_batch]]
    low, high = params.context_range
    factors = low + torch.rand(len(own)) * (high - low)
    windows = context_windows(boxes[own].numpy(), factors.numpy())
    inside = in_windows(boxes[own].numpy(), windows)
    return Regions(torch.from_numpy(windows).float(), inside, instances.gt_classes[own])


def cut_out(features: Tensor, windows: Sequence[Tensor], stride: int, cells: int) -> Tensor:
    """Regions of feature maps, each as a square of cells (RoIAlign); what lies beyond a map is 0.

    Args:
        features: (B, C, h, w) of stride ``stride``.
        windows: for each of the B maps (N_b, 4) XYXY in pixels.
        stride: of the maps.
        cells: side S of the squares.

    Returns:
        (sum of N_b, C, S, S).
    """
    corners = [each.to(features) for each in windows]
    return roi_align(features, corners, cells, spatial_scale=1 / stride, aligned=True)


def mirrored(windows: Tensor, width: float) -> Tensor:
    """The windows (N, 4) XYXY in the mirror image of an image so wide."""
    x0, y0, x1, y1 = windows.unbind(1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)
