"""Bit masks as runs of pixels, of which indexing copies none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.layers import ROIAlign
from detectron2.structures import BitMasks
from torch import Tensor

from wsis.structures.rle import runs_of

_CELLS = 2**24
"""Pixels that are dense at a time when masks are cut out: 64 MB."""


class Runs(NamedTuple):
    """Pieces of columns of masks, in any order; those of one mask may overlap.

    Attributes:
        starts: (S,) int64, row x width + column of the first pixel.
        lengths: (S,) int64, pixels from there down, at least 1.
        owner: (S,) int64, which mask the run belongs to.
    """

    starts: Tensor
    lengths: Tensor
    owner: Tensor

    @staticmethod
    def cat(parts: Iterable[Runs]) -> Runs:
        """Those of several in one."""
        return Runs(*map(torch.cat, zip(*parts, strict=True)))


class RunMasks(BitMasks):
    """Detectron2's `BitMasks`, save that it holds the vertical runs of each mask's pixels in place of all of them.

    A run is a piece of one column, so a mask costs what its box has columns, however large the image is. Indexing picks
    entries of a list: RoI heads index the ground truth once per sampled proposal, and all of these share the few masks
    of the image. `tensor` makes the plain form when something asks for it.

    Args:
        masks: (G, H, W) bool.
    """

    def __init__(self, masks: Tensor) -> None:
        columns = torch.as_tensor(masks, dtype=torch.bool).transpose(1, 2)
        beside = torch.nn.functional.pad(columns, (1, 1))
        owner, column, row = (columns & ~beside[..., :-2]).nonzero(as_tuple=True)
        last = (columns & ~beside[..., 2:]).nonzero(as_tuple=True)[2]
        size = masks.shape[1], masks.shape[2]
        self._set(Runs(row * size[1] + column, last - row + 1, owner), len(masks), size)

    def _set(self, runs: Runs, number: int, size: tuple[int, int]) -> None:
        starts, lengths, owner = runs
        order = owner.argsort(stable=True)
        self.image_size = size
        self.starts, self.lengths = starts[order], lengths[order]
        self.counts = owner.bincount(minlength=number)
        self.index = torch.arange(number, device=owner.device)

    @classmethod
    def from_runs(cls, runs: Runs, number: int, size: tuple[int, int]) -> RunMasks:
        """Masks of runs.

        Args:
            runs: of all masks.
            number: of masks.
            size: their height and width.
        """
        out = cls.__new__(cls)
        out._set(runs, number, size)
        return out

    @classmethod
    def from_segmentations(cls, segmentations: Sequence[Any], height: int, width: int) -> RunMasks:
        """Masks of one image in any form of COCO's ``segmentation``; None = empty.

        Raises:
            ValueError: see :func:`wsis.structures.rle.segmentation_to_rle`.
        """
        owner, first, last = map(torch.from_numpy, runs_of(segmentations, height, width))
        left, right = first // height, last // height
        columns = right - left + 1
        column = spans(left, columns)
        owner, first, last, left, right = (
            each.repeat_interleave(columns) for each in (owner, first, last, left, right)
        )
        top = torch.where(column == left, first % height, 0)
        bottom = torch.where(column == right, last % height, height - 1)
        runs = Runs(top * width + column, bottom - top + 1, owner)
        return cls.from_runs(runs, len(segmentations), (height, width))

    @classmethod
    def of(cls, masks: BitMasks) -> RunMasks:
        """Any bit masks in this form."""
        return masks if isinstance(masks, RunMasks) else cls(masks.tensor)

    def runs(self, which: Tensor) -> Runs:
        """Those of some masks; an owner is a position in ``which``."""
        counts = self.counts[which]
        picked = spans((self.counts.cumsum(0) - self.counts)[which], counts)
        owner = torch.arange(len(which), device=which.device).repeat_interleave(counts)
        return Runs(self.starts[picked], self.lengths[picked], owner)

    def _dense(self, which: Tensor, dtype: torch.dtype) -> Tensor:
        """(N, H, W): some masks as 1 in 0."""
        starts, lengths, owner = self.runs(which)
        height, width = self.image_size
        out = torch.zeros((len(which), height, width), dtype=dtype, device=self.device)
        out.view(-1)[spans(starts + owner * (height * width), lengths, width)] = 1
        return out

    @property
    def tensor(self) -> Tensor:
        """(N, H, W) bool, one mask per entry."""
        return self._dense(self.index, torch.bool)

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.starts.device

    def to(self, *args: Any, **kwargs: Any) -> RunMasks:
        """As `torch.Tensor.to`."""
        out = self[:]
        for name in ("starts", "lengths", "counts", "index"):
            setattr(out, name, getattr(self, name).to(*args, **kwargs))
        return out

    def __getitem__(self, item: int | slice | Tensor) -> RunMasks:
        out = type(self).__new__(type(self))
        index = self.index[item]
        out.__dict__.update(
            self.__dict__, index=index.reshape(1) if isinstance(item, int) else index
        )
        return out

    def __len__(self) -> int:
        return len(self.index)

    def nonempty(self) -> Tensor:
        """(N,) bool, whether an entry has a pixel."""
        return self.counts[self.index] > 0

    @staticmethod
    def cat(bitmasks_list: Sequence[BitMasks]) -> RunMasks:
        """The entries of several, of images of one size, as one."""
        masks = list(map(RunMasks.of, bitmasks_list))
        parts, number = [], 0
        for each in masks:
            starts, lengths, owner = each.runs(each.index)
            parts.append(Runs(starts, lengths, owner + number))
            number += len(each)
        return RunMasks.from_runs(Runs.cat(parts), number, masks[0].image_size)

    def union(self, other: BitMasks) -> RunMasks:
        """Entry by entry; made once where a pair of masks is there several times.

        Args:
            other: as many entries of the same size.
        """
        others = RunMasks.of(other)
        pairs, index = torch.stack([self.index, others.index]).unique(dim=1, return_inverse=True)
        runs = Runs.cat([self.runs(pairs[0]), others.runs(pairs[1])])
        return RunMasks.from_runs(runs, pairs.shape[1], self.image_size)[index]

    def at(self, points: Tensor) -> Tensor:
        """Whether the pixels that points lie in belong to the masks.

        Args:
            points: (N, P, 2) x and y in pixels of the masks, of each entry.

        Returns:
            (N, P) bool; false for a point outside of the image.
        """
        height, width = self.image_size
        x, y = points.to(self.device).floor().long().unbind(dim=-1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if not len(self.starts):
            return torch.zeros_like(inside)
        # pixels numbered down the columns, one mask after the other, so that a run is a span of numbers
        owner = torch.arange(len(self.counts), device=self.device).repeat_interleave(self.counts)
        first = (owner * width + self.starts % width) * height + self.starts // width
        first, order = first.sort()
        ends = (first + self.lengths[order]).cummax(dim=0).values
        wanted = (self.index[:, None] * width + x) * height + y
        before = torch.searchsorted(first, wanted, right=True) - 1
        return inside & (before >= 0) & (ends[before.clamp(min=0)] > wanted)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Each entry's mask inside its box, at the size of a mask head's output.

        Args:
            boxes: (N, 4) XYXY in pixels of the masks.
            mask_size: M.

        Returns:
            (N, M, M) bool: a cell is inside if at least half of it is, as `BitMasks` has it.
        """
        if len(boxes) != len(self):
            raise ValueError(f"{len(boxes)} boxes for {len(self)} masks")
        boxes = boxes.to(self.device)
        used, rows = self.index.unique(return_inverse=True)
        step = max(1, _CELLS // (self.image_size[0] * self.image_size[1]))
        rois = torch.cat([(rows % step).to(boxes.dtype)[:, None], boxes], dim=1)
        pooler = ROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        out = boxes.new_zeros((len(boxes), mask_size, mask_size), dtype=torch.bool)
        for number, part in enumerate(used.split(step)):
            here = (rows // step == number).nonzero()[:, 0]
            dense = self._dense(part, torch.float32)[:, None]
            out[here] = pooler(dense, rois[here])[:, 0] >= 0.5
        return out


def spans(starts: Tensor, lengths: Tensor, stride: int = 1) -> Tensor:
    """start, start + stride, ..., of each of some spans in turn.

    Args:
        starts: (S,) int64.
        lengths: (S,) int64, how many numbers each span has.
        stride: from one number to the next.

    Returns:
        (sum of lengths,) int64.
    """
    before = lengths.cumsum(0) - lengths
    out = (starts - before * stride).repeat_interleave(lengths)
    return out.add_(torch.arange(len(out), device=out.device), alpha=stride)
