"""Box arithmetic of the published detector, which counts pixels: a box's far edge belongs to it.

Detectron2's ``Box2BoxTransform`` measures a side as x1 - x0, this coder as x1 - x0 + 1. It is
needed only with weights of the original release.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Units of dx, dy, dw, dh."""
SCALE_CLAMP = math.log(1000.0 / 16)
"""Largest dw, dh after division by the weights."""


def centre_form(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sides (..., 2) of boxes (..., 4) XYXY, far edges inclusive."""
    size = boxes[..., 2:] - boxes[..., :2] + 1
    return boxes[..., :2] + 0.5 * size, size


def decode(
    deltas: Tensor, boxes: Tensor, weights: tuple[float, float, float, float] = WEIGHTS
) -> Tensor:
    """Boxes moved by their regression.

    Args:
        deltas: (N, 4 K) dx, dy, dw, dh of K classes.
        boxes: (N, 4) XYXY, far edges inclusive.
        weights: units of dx, dy, dw, dh.

    Returns:
        (N, 4 K) XYXY, far edges inclusive, not clipped.
    """
    scaled = deltas.unflatten(1, (-1, 4)) / deltas.new_tensor(weights)
    centre, size = centre_form(boxes[:, None])
    new_centre = scaled[..., :2] * size + centre
    new_size = scaled[..., 2:].clamp(max=SCALE_CLAMP).exp() * size
    near = new_centre - 0.5 * new_size
    return torch.cat([near, new_centre + 0.5 * new_size - 1], dim=-1).flatten(1)


def clip_inclusive(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes cut to the image, as a new tensor.

    Args:
        boxes: (N, 4 K) XYXY, far edges inclusive.
        height, width: size of the image in pixels.

    Returns:
        (N, 4 K) with x in [0, width - 1] and y in [0, height - 1].
    """
    last = boxes.new_tensor([width - 1, height - 1] * 2)
    corners = boxes.unflatten(1, (-1, 4))
    return torch.minimum(corners.clamp(min=0), last).flatten(1)
