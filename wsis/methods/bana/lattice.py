"""Where boxes are sampled, and the windows that their points belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from wsis.layers.bilinear import BilinearPoints, bilinear_points


class Lattice(NamedTuple):
    """The points at which K boxes are sampled, box by box and row by row, and the windows that they are pooled into.

    Attributes:
        sizes: (K, 2) int64 rows and columns of each box's points, on the CPU.
        image: (K,) int64 image of each box, rising, on the CPU.
        points: T points on the map of the box's image.
        box: (T,) int64 box of each point.
        windows: (T, windows) bool; a point is in one window or, where these overlap, in more.
    """

    sizes: torch.Tensor
    image: torch.Tensor
    points: BilinearPoints
    box: torch.Tensor
    windows: torch.Tensor

    def to(self, device: torch.device | str) -> Lattice:
        """On another device, without waiting for it."""
        return self._replace(
            points=self.points.to(device),
            box=self.box.to(device, non_blocking=True),
            windows=self.windows.to(device, non_blocking=True),
        )

    def of_images(self, number: int) -> Iterator[tuple[BilinearPoints, torch.Tensor]]:
        """The points of each of so many images, and (B, windows, points) bool, which of them a window of a box has."""
        boxes = self.image.bincount(minlength=number)
        points = self.image.repeat_interleave(self.sizes.prod(dim=1)).bincount(minlength=number)
        parts = [part.split(points.tolist()) for part in (*self.points, self.box, self.windows)]
        last = boxes.cumsum(0)
        ends = zip((last - boxes).tolist(), last.tolist(), strict=True)
        for (start, end), corners, weights, box, windows in zip(ends, *parts, strict=True):
            own = box == torch.arange(start, end, device=box.device)[:, None]
            yield BilinearPoints(corners, weights), own[:, None] & windows.T


def unit_boxes(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Boxes (K, 4) XYXY in pixels of an image of this height and width, as :func:`box_lattice` takes them."""
    height, width = size
    return boxes / ((boxes.new_tensor([width, height] * 2) - 1) / 2) - 1


def box_lattice(
    boxes: torch.Tensor,
    image: torch.Tensor,
    map_size: tuple[int, int],
    roi_size: tuple[int, int] = (2, 2),
    align_corners: bool = True,
) -> Lattice:
    """Where boxes are sampled; computed where the boxes are, which should be the CPU.

    Args:
        boxes: (K, 4) float32 XYXY, -1 and 1 on the centres of the first and the last pixel of the image.
        image: (K,) int64, rising.
        map_size: h and w of the features.
        roi_size: rows and columns of the windows.
        align_corners: False samples as if -1 and 1 were the outer edges of those pixels, as the original release does.
    """
    counts = []
    for axis, size in zip((1, 0), map_size, strict=True):
        low, high = ((boxes[:, k] + 1) / 2 * (size - 1) for k in (axis, axis + 2))
        counts.append((high.ceil() - low.floor()).long().clamp(min=1))
    sizes = torch.stack(counts, dim=1)
    box, index = lattice_indices(sizes)
    coordinates = []
    for k, (axis, size) in enumerate(zip((1, 0), map_size, strict=True)):
        step = (boxes[:, axis + 2] - boxes[:, axis]) / (sizes[:, k] - 1).clamp(min=1)
        value = boxes[box, axis] + index[:, k] * step[box]
        if align_corners:
            coordinates.append((value + 1) / 2 * (size - 1))
        else:
            coordinates.append(((value + 1) * size - 1) / 2)
    points = bilinear_points(coordinates[0], coordinates[1], map_size)
    return make_lattice(sizes, image, points, roi_size)


def lattice_indices(sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The points of boxes: (T,) box and (T, 2) row and column of each, from (K, 2) rows and columns of the boxes."""
    number = sizes.prod(dim=1)
    box = torch.arange(len(sizes)).repeat_interleave(number)
    place = torch.arange(len(box)) - (number.cumsum(0) - number)[box]
    return box, torch.stack([place // sizes[box, 1], place % sizes[box, 1]], dim=1)


def make_lattice(
    sizes: torch.Tensor, image: torch.Tensor, points: BilinearPoints, roi_size: tuple[int, int]
) -> Lattice:
    """A lattice of given points.

    Args:
        sizes: (K, 2) int64 rows and columns of each box's points.
        image: (K,) int64, rising.
        points: box by box and row by row.
        roi_size: rows and columns of the windows.
    """
    box, index = lattice_indices(sizes)
    rows, columns = (_in_windows(index[:, k], sizes[box, k], roi_size[k]) for k in (0, 1))
    return Lattice(sizes, image, points, box, (rows[:, None] & columns).flatten(0, 1).T)


def _in_windows(index: torch.Tensor, size: torch.Tensor, number: int) -> torch.Tensor:
    """Which windows of an axis a row lies in: stride floor(size / number), windows of size - (number - 1) stride; of
    fewer rows than windows the last one is repeated.

    Args:
        index: (T,) rows.
        size: (T,) number of rows of the row's box.
        number: of windows.

    Returns:
        (number, T) bool.
    """
    stride, numbers = size // number, torch.arange(number)[:, None]
    start = numbers * stride
    inside = (index >= start) & (index < start + size - (number - 1) * stride)
    repeated = index == torch.minimum(numbers, size - 1)
    return torch.where(stride > 0, inside, repeated)
