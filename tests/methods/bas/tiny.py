"""BAS on two convolutions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from wsis.methods.bas import BAS, BASBox
from wsis.methods.bas.backbones import TappedBackbone
from wsis.methods.bas.config import BASBoxParams, BASParams
from wsis.methods.bas.network import BASNetwork

SIDE, STRIDE = 32, 4
"""Of images with boxes, and of the tap."""


def make_network(
    classes: int = 3, channels: int = 16, norm: bool = True, hidden: int = 0
) -> BASNetwork:
    """Tapped at stride 4, with one convolution behind a pool as the tail."""
    norms = [nn.BatchNorm2d(channels)] if norm else []
    trunk = nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.ReLU(),
    )
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    tail = nn.Sequential(nn.MaxPool2d(2), conv, *norms, nn.ReLU())
    return BASNetwork(TappedBackbone(trunk, tail, STRIDE), classes, hidden)


def make_model(network: BASNetwork | None = None, **params: Any) -> BAS:
    """In training mode; the keys are those of :class:`BASParams`."""
    torch.manual_seed(3)
    return BAS(
        network=network or make_network(),
        pixel_mean=[100.0] * 3,
        pixel_std=[60.0] * 3,
        params=BASParams(**{"head_channels": 0} | params),
        crop=24,
    )


def make_batch(number: int = 3, size: int = 32) -> list[dict[str, torch.Tensor]]:
    """Samples of training, each with one tag of three."""
    images = 255 * torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(2))
    return [{"image": i, "tags": torch.eye(3)[k % 3]} for k, i in enumerate(images)]


def make_inputs(*tags: int, size: int = 32) -> dict[str, Any]:
    """One image of evaluation, or of generation, which was half as large."""
    (sample,) = make_batch(1, size)
    given = {"image": sample["image"], "height": size // 2, "width": size // 2, "tags": list(tags)}
    return given | {"image_id": 1, "file_name": "a.png"}


def make_box_model(region: str = "shared", **box: Any) -> BASBox:
    """In training mode; the keys are those of :class:`BASBoxParams`."""
    torch.manual_seed(3)
    return BASBox(
        network=make_network(),
        pixel_mean=[100.0] * 3,
        pixel_std=[60.0] * 3,
        image_format="RGB",
        params=BASParams(head_channels=0),
        box=BASBoxParams(**{"region": region, "size": SIDE, "min_side": 4} | box),
    )


def pixels(seed: int = 0) -> np.ndarray:
    """An image, RGB."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def asked(*boxes: tuple[int, ...], image: np.ndarray | None = None, enlarged: int = 1) -> Any:
    """One image of generation, which the network sees ``enlarged`` times as large."""
    image = pixels() if image is None else image
    shown = torch.from_numpy(image.transpose(2, 0, 1).copy()).float()
    shown = shown.repeat_interleave(enlarged, 1).repeat_interleave(enlarged, 2)
    instances = SimpleNamespace(
        original_boxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        gt_classes=torch.arange(len(boxes)) % 3,
        annotation_ids=list(range(len(boxes))),
    )
    about = {"height": SIDE, "width": SIDE, "image_id": 1, "file_name": "a.png"}
    return {"image": shown, "original_image": image, "instances": instances, **about}


def taught(*boxes: tuple[int, ...]) -> dict[str, Any]:
    """One sample of training with a shared trunk."""
    instances = Instances((SIDE, SIDE), gt_boxes=Boxes(torch.tensor(boxes).view(-1, 4).float()))
    instances.gt_classes = torch.arange(len(boxes)) % 3
    return {"image": asked()["image"], "instances": instances}


def make_box_batch(region: str) -> list[dict[str, Any]]:
    """Samples of training."""
    if region == "shared":
        return [taught((2, 2, 18, 20), (8, 8, 30, 30)), taught((0, 0, 32, 16))]
    box = torch.tensor([0.1, 0.2, 0.8, 0.9])
    return [each | {"box": box} for each in make_batch()]
