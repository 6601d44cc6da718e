"""The detector of the recorded explanations: two convolutions, RoIAlign, two layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import roi_align

SHAPES = {
    "conv1": (6, 3, 5, 5),
    "conv2": (8, 6, 3, 3),
    "fc1": (24, 72),
    "cls": (4, 24),
    "box": (16, 24),
}


class ToyDetector(nn.Module):
    """Class logits (background first) and class-specific regressions of proposals.

    Args:
        weights: ``conv1_weight``, ``conv1_bias``, ... of the layers in SHAPES.
    """

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for layer, shape in SHAPES.items():
            for part, size in (("weight", shape), ("bias", shape[:1])):
                value = weights[f"{layer}_{part}"]
                if value.shape != size:
                    raise ValueError(f"{layer}_{part} is {tuple(value.shape)}, expected {size}")
                self.register_parameter(f"{layer}_{part}", nn.Parameter(value.clone(), False))

    @classmethod
    def random(cls, seed: int = 0) -> ToyDetector:
        """One with random weights."""
        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for layer, shape in SHAPES.items():
            scale = (2 / torch.tensor(shape[1:]).prod()) ** 0.5
            weights[f"{layer}_weight"] = torch.randn(shape, generator=generator) * scale
            weights[f"{layer}_bias"] = torch.randn(shape[:1], generator=generator) * 0.1
        return cls(weights)

    def forward(
        self, images: torch.Tensor, proposals: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean-subtracted (B, 3, H, W) BGR images and B lists of boxes to logits and regressions."""
        x = functional.conv2d(images / 60, self.conv1_weight, self.conv1_bias, 4, 2).relu()
        x = functional.conv2d(x, self.conv2_weight, self.conv2_bias, 2, 1).relu()
        rois = roi_align(x, list(proposals), 3, 1 / 8, 2, aligned=False).flatten(1)
        hidden = functional.linear(rois, self.fc1_weight, self.fc1_bias).relu()
        return (
            functional.linear(hidden, self.cls_weight, self.cls_bias),
            functional.linear(hidden, self.box_weight, self.box_bias),
        )
