"""Background-aware pooling box by box, cell by cell and window by window; to compare with."""

from __future__ import annotations

import torch
from torch.nn import functional

from wsis.methods.bana.pooling import EPS, PoolingParams


def spans(size: int, number: int) -> list[slice]:
    """Windows along an axis; of fewer rows than windows the last one is repeated."""
    if size < number:
        return [slice(min(k, size - 1), min(k, size - 1) + 1) for k in range(number)]
    stride = size // number
    length = size - (number - 1) * stride
    return [slice(k * stride, k * stride + length) for k in range(number)]


def windows(values: torch.Tensor, weight: torch.Tensor, roi: tuple[int, int]) -> torch.Tensor:
    """(C, h, w) and (h, w) to the weighted means (C, OH, OW)."""
    means = [
        (values[:, y, x] * weight[y, x]).sum(dim=(1, 2)) / (weight[y, x].sum() + EPS)
        for y in spans(values.shape[1], roi[0])
        for x in spans(values.shape[2], roi[1])
    ]
    return torch.stack(means, dim=1).unflatten(1, roi)


def nearest(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A mask (..., H, W) at another size."""
    sides = zip(mask.shape[-2:], size, strict=True)
    rows, columns = ([i * big // small for i in range(small)] for big, small in sides)
    return mask[..., rows, :][..., columns]


def pad(values: torch.Tensor, grid: int) -> torch.Tensor:
    """Zeros on both ends, or all on the far one where their number is odd; (..., h, w)."""
    ends = []
    for size in values.shape[:-3:-1]:
        need = -size % grid
        before = 0 if need % 2 else need // 2
        ends += [before, need - before]
    return functional.pad(values, ends)


def cells(values: torch.Tensor, grid: int) -> list[torch.Tensor]:
    """The cells of a map after :func:`pad`, row by row."""
    padded = pad(values, grid)
    height, width = (n // grid for n in padded.shape[-2:])
    return [
        padded[..., r * height : (r + 1) * height, c * width : (c + 1) * width]
        for r in range(grid)
        for c in range(grid)
    ]


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of a vector with the (C, h, w) vectors of a map."""
    return torch.einsum(
        "c,chw->hw", functional.normalize(a, dim=0, eps=EPS), functional.normalize(b, dim=0)
    )


def sample(features: torch.Tensor, box: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """(C, h, w) and a box to the (C, rows, columns) samples in it."""
    axes = []
    for axis, size in ((1, features.shape[1]), (0, features.shape[2])):
        low, high = ((box[k] + 1) / 2 * (size - 1) for k in (axis, axis + 2))
        number = max(1, int(high.ceil() - low.floor()))
        axes.append(torch.linspace(float(box[axis]), float(box[axis + 2]), number))
    y, x = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([x, y], dim=-1)[None]
    return functional.grid_sample(features[None], grid, align_corners=align_corners)[0]


def pool_box_by_box(
    features: torch.Tensor,
    mask: torch.Tensor,
    boxes: torch.Tensor,
    image: torch.Tensor,
    params: PoolingParams,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """:func:`wsis.methods.bana.pooling.background_aware_pooling` in loops.

    Args:
        features: (N, C, h, w).
        mask: (N, H, W) float, 1 = background.
        boxes: (K, 4) XYXY, -1 and 1 on the centres of the first and last pixel.
        image: (K,) int64.
        params: of the pooling.

    Returns:
        (K, windows, C) pooled features, (N, J, C) queries, (N, J) background pixels of their cells, and the weights
        1 - A (rows, columns) of each box.
    """
    grid = params.grid_size
    small = nearest(mask, tuple(features.shape[2:]))
    counts = torch.stack([torch.stack([c.sum() for c in cells(m, grid)]) for m in small])
    queries = torch.stack(
        [
            torch.stack([c.sum(dim=(1, 2)) for c in cells(f * m, grid)]) / (s[:, None] + EPS)
            for f, m, s in zip(features, small, counts, strict=True)
        ]
    )
    pooled, attention = (
        [features.new_zeros(0, params.roi_size[0] * params.roi_size[1], features.shape[1])],
        [],
    )
    for box, n in zip(boxes, image.tolist(), strict=True):
        r, known = sample(features[n], box, params.align_corners), queries[n][counts[n] > 0]
        a = torch.ones(r.shape[1:])
        if params.aware and mask[n].mean() > params.min_background and len(known):
            a = 1 - torch.stack([cosine(q, r).relu() for q in known]).mean(dim=0)
        attention.append(a)
        pooled.append(windows(r, a, params.roi_size).flatten(1).T[None])
    return torch.cat(pooled), queries, counts, attention
