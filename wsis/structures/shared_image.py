"""An image that all of its instances share."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import ROIAlign


class SharedImage:
    """A field of Detectron2's ``Instances`` with the same image for each of them, of which indexing copies no pixel.

    Args:
        image: (3, h, w) uint8.
        number: of instances.
    """

    def __init__(self, image: torch.Tensor, number: int) -> None:
        self.image, self.number = image, number

    def to(self, *args: Any, **kwargs: Any) -> SharedImage:
        """As ``torch.Tensor.to``."""
        return SharedImage(self.image.to(*args, **kwargs), self.number)

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, item: int | slice | torch.Tensor) -> SharedImage:
        if isinstance(item, torch.Tensor):
            number = int(item.sum()) if item.dtype == torch.bool else item.numel()
        else:
            number = 1 if isinstance(item, int) else len(range(self.number)[item])
        return SharedImage(self.image, number)

    def colours(self, boxes: torch.Tensor, size: int) -> torch.Tensor:
        """What the image shows in boxes.

        Args:
            boxes: (N, 4) XYXY in pixels.
            size: side of the result.

        Returns:
            (N, 3, size, size) float32 in [0, 1], means of the cells.
        """
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
        image = self.image[None].float() / 255
        return ROIAlign((size, size), 1.0, 0, aligned=True)(image, rois.float())
