"""What a teacher returns for one image: one mask per given box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from wsis.errors import counted
from wsis.structures.rle import RLE, decode_mask, encode_box, encode_crop, rle_area
from wsis.structures.score_maps import ScoreMaps
from wsis.structures.seed import Seed

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
        score_maps: map name to its scores; empty for methods that make none.
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
    score_maps: dict[str, ScoreMaps] = field(default_factory=dict)

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
        size = seed.height, seed.width
        codes = [encode_crop(*crop, *size) if crop[0].any() else None for crop in crops]
        regions = None
        if ignore is not None:
            regions = [_encode_ignore(*pair, *size) for pair in zip(ignore, crops, strict=True)]
        return cls.from_codes(seed, codes, ignore=regions, scores=scores, status=status)

    @classmethod
    def from_codes(
        cls,
        seed: Seed,
        codes: Sequence[RLE | None],
        *,
        ignore: Sequence[RLE | None] | None = None,
        scores: Sequence[float] | None = None,
        status: Sequence[str] | None = None,
    ) -> ProxyMasks:
        """As :meth:`from_crops`, of codes that have a pixel and None for an empty mask; ``ignore`` must be disjoint."""
        n = len(seed)
        result = cls(
            height=seed.height,
            width=seed.width,
            annotation_ids=tuple(seed.annotation_ids),
            boxes=np.asarray(seed.boxes, dtype=np.float32).reshape(n, 4),
            classes=np.asarray(seed.classes, dtype=np.int64).reshape(n),
            masks=[],
            ignore_masks=[None] * n if ignore is None else list(ignore),
            scores=[1.0] * n if scores is None else [float(score) for score in scores],
            status=["ok"] * n if status is None else list(status),
        )
        if not len(codes) == len(result.ignore_masks) == len(result.scores) == len(result.status):
            raise ValueError(
                f"{counted(n, 'box', 'boxes')}, but {counted(len(codes), 'mask')}, "
                f"{counted(len(result.ignore_masks), 'ignore mask')}, {counted(len(result.scores), 'score')}"
            )
        for i, code in enumerate(codes):
            if result.status[i] not in STATUSES:
                raise ValueError(
                    f"status {result.status[i]!r}, expected one of {', '.join(STATUSES)}"
                )
            if code is None or result.status[i] in ("empty", "failed"):
                code = encode_box(seed.boxes[i], seed.height, seed.width)
                result.ignore_masks[i], result.scores[i] = code, 0.0
                result.status[i] = "failed" if result.status[i] == "failed" else "empty"
            result.masks.append(code)
        return result

    @classmethod
    def all_empty(cls, seed: Seed) -> ProxyMasks:
        """The result where nothing was found: filled boxes, wholly ignored, score 0."""
        return cls.from_codes(seed, [None] * len(seed))

    def to_instances(self) -> ProxyInstances:
        """The dense form of the teacher protocol: ``gt_boxes``, ``gt_classes``, ``annotation_ids``, ``pred_masks``
        (N, H, W) bool, ``scores`` (N,), ``status``, and ``ignore_masks`` (N, H, W) bool where any mask has one.
        """
        return ProxyInstances(self)


class ProxyInstances(Instances):
    """The dense form of masks, which is made when it is first looked at.

    Args:
        masks: what it is made of; :attr:`masks` gives them back.
    """

    def __init__(self, masks: ProxyMasks) -> None:
        self._image_size = masks.height, masks.width
        self._masks = masks

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of a copy that is being made, which has no masks yet
            raise AttributeError(name)
        return super().__getattr__(name)

    @property
    def masks(self) -> ProxyMasks:
        """The same, not dense."""
        return self._masks

    @cached_property
    def _fields(self) -> dict[str, Any]:
        masks = self._masks
        fields = {
            "gt_boxes": Boxes(torch.from_numpy(masks.boxes)),
            "gt_classes": torch.from_numpy(masks.classes),
            "annotation_ids": torch.tensor(masks.annotation_ids, dtype=torch.int64),
            "pred_masks": _dense(masks.masks, self._image_size),
            "scores": torch.tensor(masks.scores, dtype=torch.float32),
            "status": list(masks.status),
        }
        if any(code is not None for code in masks.ignore_masks):
            fields["ignore_masks"] = _dense(masks.ignore_masks, self._image_size)
        return fields


def _dense(codes: Sequence[RLE | None], size: tuple[int, int]) -> torch.Tensor:
    out = np.zeros((len(codes), *size), dtype=bool)
    for i, code in enumerate(codes):
        if code is not None:
            out[i] = decode_mask(code)
    return torch.from_numpy(out)


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
