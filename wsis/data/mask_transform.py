"""Masks that follow their image through its transforms."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.data import transforms as T
from torch import Tensor

from wsis.structures.run_masks import RunMasks, Runs, spans

_PACKED = 8


def transform_masks(
    masks: RunMasks, transforms: T.TransformList, shape: tuple[int, int]
) -> RunMasks:
    """Masks of one image as its transforms leave them, pixel for pixel as if each went through them as a label map.

    Args:
        masks: N masks of the original image's size.
        transforms: what was applied to the image.
        shape: height and width after it.
    """
    if not len(masks.starts):
        return RunMasks.from_runs(masks.runs(masks.index), len(masks), shape)
    axes = source_axes(transforms, masks.image_size, shape)
    return _packed(masks, transforms, shape) if axes is None else _mapped(masks, *axes)


def source_axes(
    transforms: T.TransformList, size: tuple[int, int], shape: tuple[int, int]
) -> tuple[Tensor, Tensor] | None:
    """Where rows and columns of a transformed label map come from.

    Transforms of label maps move values and never mix them, so the answer is what they make of two maps whose values
    are the numbers of rows and of columns, written in digits that 8 bits hold.

    Args:
        transforms: what was applied to the image.
        size: height and width before.
        shape: height and width after.

    Returns:
        Rows (h,) and columns (w,) int64, each rising or falling; None where the transforms do more than to pick rows
        and columns so, such as a rotation or padding.
    """
    axes = []
    for axis, length in enumerate(size):
        line = np.zeros(shape[axis], dtype=np.int64)
        numbers = np.arange(1, length + 1)  # 0 would be a pixel from nowhere
        for shift in range(0, int(length + 1).bit_length(), 8):
            digits = (numbers >> shift).astype(np.uint8)
            plane = np.broadcast_to(digits[:, None] if axis == 0 else digits, size)
            moved = transforms.apply_segmentation(np.ascontiguousarray(plane))
            along = moved[:, :1] if axis == 0 else moved[:1]
            if not (moved == along).all():
                return None
            line += along.ravel().astype(np.int64) << shift
        steps = np.diff(line)
        inside = line.min() >= 1 and line.max() <= length
        if not (inside and ((steps >= 0).all() or (steps <= 0).all())):
            return None
        axes.append(torch.from_numpy(line - 1))
    return axes[0], axes[1]


def _mapped(masks: RunMasks, rows: Tensor, columns: Tensor) -> RunMasks:
    """Run by run: it keeps the rows of the result that come from it, once for each column that comes from its own."""
    starts, lengths, owner = masks.runs(masks.index)
    row, column = starts // masks.image_size[1], starts % masks.image_size[1]
    top, bottom = _places(rows, row, row + lengths)
    left, right = _places(columns, column, column + 1)
    seen = (bottom > top) & (right > left)
    top, bottom, left, right, owner = (each[seen] for each in (top, bottom, left, right, owner))
    copies = right - left
    runs = Runs(
        spans(top * len(columns) + left, copies),
        (bottom - top).repeat_interleave(copies),
        owner.repeat_interleave(copies),
    )
    return RunMasks.from_runs(runs, len(masks), (len(rows), len(columns)))


def _places(axis: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """First place of a rising or falling axis with a value from ``low`` up to but without ``high``, and behind the last
    one.
    """
    if axis[0] <= axis[-1]:
        return torch.searchsorted(axis, low), torch.searchsorted(axis, high)
    first, end = _places(axis.flip(0), low, high)
    return len(axis) - end, len(axis) - first


def _packed(masks: RunMasks, transforms: T.TransformList, shape: tuple[int, int]) -> RunMasks:
    """All pixels of all masks, of which eight travel as the bits of one map."""
    parts = []
    for start in range(0, len(masks), _PACKED):
        dense = masks[start : start + _PACKED].tensor.numpy()
        bits = 1 << np.arange(len(dense), dtype=np.uint8)[:, None, None]
        labels = transforms.apply_segmentation(np.bitwise_or.reduce(dense * bits))
        parts.append(RunMasks(torch.from_numpy(labels & bits != 0)))
    return RunMasks.cat(parts)
