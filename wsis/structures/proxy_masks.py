"""What a teacher returns for one image: one mask per given box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from wsis.structures.rle import RLE, decode_mask, encode_box, encode_crop, rle_area
from wsis.structures.seed import Seed

if TYPE_CHECKING:
    from detectron2.structures import Instances

STATUSES = ("ok", "fallback", "empty", "failed", "given", "crowd")
"""Mask found; a stated substitute; no mask found; image unreadable; a true mask, copied; crowd region, copied."""

Crop = tuple[np.ndarray, int, int]
"""A mask on a window of the image: (h, w) bool, column and row of its first pixel."""


@dataclass
class ProxyMasks:
    """Masks of one image at its original size, one per given box, in the order of the boxes.

    Args:
        height, width: original size of the image in pixels.
        annotation_ids: N source annotation ids.
        boxes: (N, 4) float32 XYXY, original pixels.
        classes: (N,) int64 contiguous.
        masks: N codes of the full image.
        ignore_masks: N codes (or None) of pixels that the student's mask loss must skip; disjoint from the mask, save
            where the status is ``empty`` or ``failed``: there both are the filled box.
        scores: N confidences in [0, 1]; 1.0 where the method has none, 0.0 for ``empty`` and ``failed``.
        status: N of :data:`STATUSES`.
        sem_seg: label name to (H, W) uint8 semantic map, 255 = ignore; empty for methods without a semantic side.
    """

    height: int
    width: int
    annotation_ids: tuple[int, ...]
    boxes: np.ndarray
    classes: np.ndarray
    masks: list[RLE]
    ignore_masks: list[RLE | None]
    scores: list[float]
    status: list[str]
    sem_seg: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.annotation_ids)

    @classmethod
    def from_crops(
        cls,
        seed: Seed,
        crops: Sequence[Crop],
        *,
        ignore: Sequence[Crop | None] | None = None,
        scores: Sequence[float] | None = None,
        status: Sequence[str] | None = None,
    ) -> ProxyMasks:
        """Builds the result from masks on windows; an empty mask becomes status ``empty``.

        Args:
            seed: the image and boxes that the masks belong to.
            crops: N windows.
            ignore: N windows or None; pixels of the mask itself are taken out.
            scores: N confidences, default 1.0.
            status: N statuses, default ``ok``.

        Raises:
            ValueError: a list is not as long as the seed has boxes, or a status is unknown.
        """
        n = len(seed)
        ignore = [None] * n if ignore is None else ignore
        scores = [1.0] * n if scores is None else scores
        status = ["ok"] * n if status is None else status
        if not len(crops) == len(ignore) == len(scores) == len(status) == n:
            raise ValueError(
                f"{n} boxes, but {len(crops)} masks, {len(ignore)} ignore masks, {len(scores)} scores"
            )
        result = cls.all_empty(seed)
        for i, crop in enumerate(crops):
            if status[i] not in STATUSES:
                raise ValueError(f"status {status[i]!r}, expected one of {', '.join(STATUSES)}")
            if status[i] in ("empty", "failed") or not crop[0].any():
                result.status[i] = "failed" if status[i] == "failed" else "empty"
                continue
            result.masks[i] = encode_crop(*crop, seed.height, seed.width)
            result.ignore_masks[i] = _encode_ignore(ignore[i], crop, seed.height, seed.width)
            result.scores[i] = float(scores[i])
            result.status[i] = status[i]
        return result

    @classmethod
    def all_empty(cls, seed: Seed, status: str = "empty") -> ProxyMasks:
        """The result where nothing was found: filled boxes, wholly ignored, score 0."""
        boxes = [encode_box(box, seed.height, seed.width) for box in seed.boxes]
        n = len(boxes)
        return cls(
            height=seed.height,
            width=seed.width,
            annotation_ids=tuple(seed.annotation_ids),
            boxes=np.asarray(seed.boxes, dtype=np.float32).reshape(n, 4),
            classes=np.asarray(seed.classes, dtype=np.int64).reshape(n),
            masks=list(boxes),
            ignore_masks=list(boxes),
            scores=[0.0] * n,
            status=[status] * n,
        )

    def to_instances(self) -> Instances:
        """The dense form of the teacher protocol: ``gt_boxes``, ``gt_classes``, ``annotation_ids``, ``pred_masks``
        (N, H, W) bool, ``scores`` (N,), ``status``, and ``ignore_masks`` (N, H, W) bool where any mask has one.
        """
        import torch
        from detectron2.structures import Boxes, Instances

        def dense(codes: Sequence[RLE | None]) -> torch.Tensor:
            out = np.zeros((len(codes), self.height, self.width), dtype=bool)
            for i, code in enumerate(codes):
                if code is not None:
                    out[i] = decode_mask(code)
            return torch.from_numpy(out)

        instances = Instances((self.height, self.width))
        instances.gt_boxes = Boxes(torch.from_numpy(self.boxes))
        instances.gt_classes = torch.from_numpy(self.classes)
        instances.annotation_ids = torch.tensor(self.annotation_ids, dtype=torch.int64)
        instances.pred_masks = dense(self.masks)
        if any(code is not None for code in self.ignore_masks):
            instances.ignore_masks = dense(self.ignore_masks)
        instances.scores = torch.tensor(self.scores, dtype=torch.float32)
        instances.status = list(self.status)
        return instances


def _encode_ignore(ignore: Crop | None, mask: Crop, height: int, width: int) -> RLE | None:
    """The ignored window without the mask's own pixels; None where nothing is left."""
    if ignore is None:
        return None
    region, x0, y0 = ignore
    region = region.astype(bool, copy=True)
    inside, mx, my = mask
    rows = slice(max(y0, my), min(y0 + region.shape[0], my + inside.shape[0]))
    columns = slice(max(x0, mx), min(x0 + region.shape[1], mx + inside.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        overlap = inside[rows.start - my : rows.stop - my, columns.start - mx : columns.stop - mx]
        region[
            rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0
        ] &= ~overlap.astype(bool)
    code = encode_crop(region, x0, y0, height, width)
    return code if rle_area(code) else None
