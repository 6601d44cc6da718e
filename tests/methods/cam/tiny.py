"""Class activation maps of means of pixels, with nothing to learn but the classifier."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn
from torch.nn import functional

from wsis.methods.cam import CAM
from wsis.methods.cam.config import CAMParams
from wsis.modeling.tag_classifier import TagClassifierParams


class Pools(Backbone):
    """Means of 8 x 8 pixels."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"pools": ShapeSpec(channels=3, stride=8)}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pools": functional.avg_pool2d(images, 8, ceil_mode=True)}


def make_model(loss: str = "soft_margin", sem_seg: bool = False, **cam: Any) -> CAM:
    """In eval mode; class c is the channel c of the image, and the fourth one is dark.

    Args:
        loss: of training.
        sem_seg: make labels too.
        cam: of :class:`CAMParams`.
    """
    model = CAM(
        backbone=Pools(),
        num_classes=4,
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        params=TagClassifierParams(loss, bias=True),
        cam=CAMParams(**cam),
        sem_seg=sem_seg,
    )
    weight = torch.cat([torch.eye(3), -torch.ones(1, 3)])
    model.classifier.weight = nn.Parameter(weight[:, :, None, None])
    nn.init.zeros_(model.classifier.bias)
    return model.eval()


def make_inputs(*tags: int, size: tuple[int, int] = (41, 57)) -> dict[str, Any]:
    """Class 0 is on the left, class 1 on the right, class 2 above."""
    image = torch.zeros(3, *size)
    image[0, :, :16], image[1, :, -24:], image[2, :24] = 4.0, 2.0, 1.0
    given = {"image": image, "height": size[0], "width": size[1], "tags": list(tags)}
    return given | {"image_id": 1, "file_name": "a.png"}


def make_batch() -> list[dict[str, torch.Tensor]]:
    """Two samples of training, each with one tag."""
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    return [{"image": i, "tags": t} for i, t in zip(images, torch.eye(4)[:2], strict=True)]
