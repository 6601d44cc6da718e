"""Bit masks that are indexed without copying pixels."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import ROIAlign
from detectron2.structures import BitMasks


class IndexedBitMasks(BitMasks):
    """Detectron2's `BitMasks`, save that indexing it picks entries of a list and copies no pixels.

    RoI heads index the ground truth once per sampled proposal, so plain bit masks are copied 512
    times the image's size, background included, and again for the foreground. Here all of them
    share the few masks of the image. `tensor` makes the plain form when something asks for it.

    Args:
        masks: (G, H, W) bool, the masks of the image.
        index: (N,) int64, which of them each entry is; all in turn by default.
    """

    def __init__(self, masks: torch.Tensor, index: torch.Tensor | None = None) -> None:
        self.masks = torch.as_tensor(masks, dtype=torch.bool)
        self.image_size = self.masks.shape[1:]
        if index is None:
            index = torch.arange(len(self.masks), device=self.masks.device)
        self.index = index

    @property
    def tensor(self) -> torch.Tensor:
        """(N, H, W) bool, one mask per entry."""
        return self.masks[self.index]

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.masks.device

    def to(self, *args: Any, **kwargs: Any) -> IndexedBitMasks:
        """As `torch.Tensor.to`."""
        masks = self.masks.to(*args, **kwargs)
        return IndexedBitMasks(masks, self.index.to(masks.device))

    def __getitem__(self, item: int | slice | torch.Tensor) -> IndexedBitMasks:
        index = self.index[item]
        return IndexedBitMasks(self.masks, index.reshape(1) if isinstance(item, int) else index)

    def __len__(self) -> int:
        return len(self.index)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Each entry's mask inside its box, at the size of a mask head's output.

        Args:
            boxes: (N, 4) XYXY in pixels of the masks.
            mask_size: M.

        Returns:
            (N, M, M) bool: a cell is inside if at least half of it is, as `BitMasks` has it.
        """
        if len(boxes) != len(self):
            raise ValueError(f"{len(boxes)} boxes for {len(self)} masks")
        used, rows = self.index.unique(return_inverse=True)
        pooler = ROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        rois = torch.cat([rows.to(boxes.dtype)[:, None], boxes.to(self.device)], dim=1)
        return pooler(self.masks[used, None].float(), rois)[:, 0] >= 0.5
