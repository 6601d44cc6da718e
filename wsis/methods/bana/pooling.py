"""Background-aware pooling (spec 4.2, 4.3), for all boxes of a batch at once.

Nothing of C channels is sampled: cosines need one product map per query and the norm of each sample, and a pooled
feature is a weighted mean of the map's own pixels, see :mod:`wsis.layers.bilinear`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

from wsis.layers.bilinear import (
    BilinearPoints,
    bilinear_points,
    neighbour_products,
    sample,
    sampled_square_norms,
)

EPS = 1e-12


@dataclass(frozen=True)
class PoolingParams:
    """How boxes are pooled in training.

    Attributes:
        aware: with background attention.
        grid_size: G.
        roi_size: rows and columns of the windows.
        align_corners: of the sampling.
        min_background: share of background above which an image's boxes are pooled with attention.
    """

    aware: bool = True
    grid_size: int = 4
    roi_size: tuple[int, int] = (2, 2)
    align_corners: bool = True
    min_background: float = 0.125


class Lattice(NamedTuple):
    """The points at which K boxes are sampled, box by box and row by row, and the windows that they are pooled into.

    Attributes:
        sizes: (K, 2) int64 rows and columns of each box's points.
        image: (T,) int64 image of each point.
        points: T points on the maps of all images.
        pair_point: (Q,) int64; a point is in one window or, where these overlap, in more.
        pair_window: (Q,) int64, box times windows per box plus window.
        row_of_box: (K,) int64, image times the largest number of boxes in an image plus the box's place in its image.
        boxes_per_image: that largest number.
        windows: per box.
    """

    sizes: torch.Tensor
    image: torch.Tensor
    points: BilinearPoints
    pair_point: torch.Tensor
    pair_window: torch.Tensor
    row_of_box: torch.Tensor
    boxes_per_image: int
    windows: int

    def to(self, device: torch.device | str) -> Lattice:
        """On another device, without waiting for it."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("sizes", "image", "pair_point", "pair_window", "row_of_box")
        }
        return self._replace(points=self.points.to(device), **moved)


class Pooled(NamedTuple):
    """What :func:`background_aware_pooling` makes.

    Attributes:
        windows: (K, windows, C) pooled features of the boxes, windows row by row.
        queries: (N, J, C); 0 for a cell without background.
        valid: (N, J) bool, the cell has background.
        attention: (T,) weight 1 - A of each point of the lattice.
    """

    windows: torch.Tensor
    queries: torch.Tensor
    valid: torch.Tensor
    attention: torch.Tensor


def grid_padding(height: int, width: int, grid: int) -> tuple[int, int, int, int]:
    """Zeros around a map so that both sides are multiples of ``grid``: left, right, top, bottom.

    An even number is shared by both ends, an odd one goes to the right or the bottom.
    """

    def ends(size: int) -> tuple[int, int]:
        need = -size % grid
        return (0, need) if need % 2 else (need // 2, need // 2)

    return (*ends(width), *ends(height))


def grid_cells(height: int, width: int, grid: int) -> torch.Tensor:
    """The cell, 0 to grid^2 - 1, that each pixel of a map lies in after :func:`grid_padding`; (height, width) int64."""
    left, right, top, bottom = grid_padding(height, width, grid)
    rows = (torch.arange(height) + top) // ((height + top + bottom) // grid)
    columns = (torch.arange(width) + left) // ((width + left + right) // grid)
    return rows[:, None] * grid + columns


def background_queries(
    features: torch.Tensor, mask: torch.Tensor, grid: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean background feature of each cell: q_j = sum_cell M f / (S_j + eps), S_j = sum_cell M.

    Args:
        features: (N, C, h, w).
        mask: (N, h, w) float, 1 = background, at the features' size.
        grid: G; J = G^2 cells.

    Returns:
        (N, J, C) queries and (N, J) counts S.
    """
    cells = grid_cells(mask.shape[1], mask.shape[2], grid).flatten()
    member = functional.one_hot(cells, grid**2).T.to(features)
    weights = member * mask.flatten(1)[:, None]
    counts = weights.sum(dim=2)
    # in this order the features' gradient lies in memory as the features do
    means = torch.bmm(features.flatten(2), (weights / (counts[:, :, None] + EPS)).mT)
    return means.mT, counts


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
    points = bilinear_points(coordinates[0], coordinates[1], map_size, image[box])
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
    member = (rows[:, :, None] & columns[:, None, :]).flatten(1)
    pair_point, window = member.nonzero(as_tuple=True)
    windows = roi_size[0] * roi_size[1]
    place_in_image = torch.arange(len(image)) - torch.searchsorted(image, image)
    most = int(place_in_image.max()) + 1 if len(image) else 0
    return Lattice(
        sizes=sizes,
        image=image[box],
        points=points,
        pair_point=pair_point,
        pair_window=box[pair_point] * windows + window,
        row_of_box=image * most + place_in_image,
        boxes_per_image=most,
        windows=windows,
    )


def _in_windows(index: torch.Tensor, size: torch.Tensor, number: int) -> torch.Tensor:
    """Which windows of an axis a row lies in: stride floor(size / number), windows of size - (number - 1) stride; of
    fewer rows than windows the last one is repeated.

    Args:
        index: (T,) rows.
        size: (T,) number of rows of the row's box.
        number: of windows.

    Returns:
        (T, number) bool.
    """
    stride = (size // number)[:, None]
    start = torch.arange(number) * stride
    length = size[:, None] - (number - 1) * stride
    inside = (index[:, None] >= start) & (index[:, None] < start + length)
    repeated = index[:, None] == torch.minimum(torch.arange(number), size[:, None] - 1)
    return torch.where(stride > 0, inside, repeated)


def background_attention(
    features: torch.Tensor, queries: torch.Tensor, valid: torch.Tensor, lattice: Lattice
) -> torch.Tensor:
    """A(p) = mean over the valid cells j of the point's image of ReLU(cos(r(p), q_j)).

    Args:
        features: (N, C, h, w).
        queries: (N, J, C).
        valid: (N, J) bool; an image without any has A = 0.
        lattice: T points.

    Returns:
        (T,) in [0, 1].
    """
    directions = functional.normalize(queries, dim=2, eps=EPS)
    products = torch.bmm(directions, features.flatten(2)).mT.flatten(0, 1)
    square = sampled_square_norms(neighbour_products(features), lattice.points)
    norm = square.clamp(min=EPS**2).sqrt()
    cosines = functional.relu(sample(products, lattice.points) / norm[:, None])
    weights = valid / valid.sum(dim=1, keepdim=True).clamp(min=1)
    return (cosines * weights.index_select(0, lattice.image)).sum(dim=1)


def pool_windows(features: torch.Tensor, attention: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """z = sum_window a r / (sum_window a + eps), for all windows of all boxes.

    Args:
        features: (N, C, h, w).
        attention: (T,) a of each point.
        lattice: T points of K boxes.

    Returns:
        (K, windows, C).
    """
    images, channels, height, width = features.shape
    boxes, windows, pixels = len(lattice.row_of_box), lattice.windows, height * width
    chosen = attention.index_select(0, lattice.pair_point)
    totals = attention.new_zeros(boxes * windows).index_add(0, lattice.pair_window, chosen)
    chosen = chosen / (totals + EPS).index_select(0, lattice.pair_window)
    # a map of weights per window, in rows that are as many for each image
    box, window = lattice.pair_window // windows, lattice.pair_window % windows
    row = lattice.row_of_box.index_select(0, box) * windows + window
    corner = lattice.points.corners.index_select(0, lattice.pair_point) % pixels
    share = lattice.points.weights.index_select(0, lattice.pair_point) * chosen[:, None]
    size = images * lattice.boxes_per_image * windows * pixels
    maps = attention.new_zeros(size).index_add(
        0, (row[:, None] * pixels + corner).flatten(), share.flatten()
    )
    rows = lattice.boxes_per_image * windows
    means = torch.bmm(features.flatten(2), maps.view(images, rows, pixels).mT).mT
    return means.reshape(-1, windows, channels).index_select(0, lattice.row_of_box)


def background_aware_pooling(
    features: torch.Tensor,
    mask: torch.Tensor,
    lattice: Lattice,
    grid: int,
    min_background: float = 0.125,
    aware: bool = True,
) -> Pooled:
    """Pools the boxes of a batch.

    Args:
        features: (N, C, h, w).
        mask: (N, H, W) float, 1 = background, at the images' size.
        lattice: of the boxes.
        grid: G of the queries.
        min_background: share of background above which an image's boxes are pooled with attention.
        aware: False pools all boxes without attention ("GAP").
    """
    small = functional.interpolate(mask[:, None], size=features.shape[2:], mode="nearest")[:, 0]
    queries, counts = background_queries(features, small, grid)
    valid = counts > 0
    if aware:
        enough = mask.mean(dim=(1, 2)) > min_background
        found = background_attention(features, queries, valid, lattice)
        attention = 1 - found * enough.index_select(0, lattice.image)
    else:
        attention = features.new_ones(len(lattice.image))
    return Pooled(pool_windows(features, attention, lattice), queries, valid, attention)


def classification_targets(
    classes: torch.Tensor, windows: int, valid: torch.Tensor
) -> torch.Tensor:
    """The targets of all rows: each box's class for its windows, then background for the queries.

    Args:
        classes: (K,) int64, 1 = the first class.
        windows: per box.
        valid: (N, J) bool.

    Returns:
        (K windows + N J,) int64; -100 for a cell without background.
    """
    queries = torch.where(valid.flatten(), 0, -100).to(classes)
    return torch.cat([classes.repeat_interleave(windows), queries])


def mean_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the rows whose target is not -100; 0, with a graph, if there is none."""
    total = functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    return total / (targets != -100).sum().clamp(min=1)
