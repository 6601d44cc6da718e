"""Background-aware pooling box by box, cell by cell and window by window; to compare with."""

from __future__ import annotations

import torch
from torch.nn import functional

from wsis.methods.bana.pooling import EPS, PoolingParams, grid_cells


def pool_box_by_box(
    features: torch.Tensor,
    mask: torch.Tensor,
    boxes: torch.Tensor,
    image: torch.Tensor,
    params: PoolingParams,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`wsis.methods.bana.pooling.background_aware_pooling` box by box, cell by cell, window by window.

    Args:
        features: (N, C, h, w).
        mask: (N, H, W) float, 1 = background.
        boxes: (K, 4) XYXY, -1 and 1 on the centres of the first and last pixel.
        image: (K,) int64.
        params: of the pooling.

    Returns:
        (K, windows, C) pooled features, and (cells with background, C) queries.
    """
    small = functional.interpolate(mask[:, None], size=features.shape[2:], mode="nearest")[:, 0]
    cells = grid_cells(small.shape[1], small.shape[2], params.grid_size)
    queries: list[list[torch.Tensor]] = []
    for own, background in zip(features, small, strict=True):
        queries.append([])
        for cell in range(params.grid_size**2):
            weight = background * (cells == cell)
            if weight.sum() > 0:
                queries[-1].append((own * weight).sum(dim=(1, 2)) / (weight.sum() + EPS))
    pooled = []
    for box, number in zip(boxes, image.tolist(), strict=True):
        samples = _sample(features[number], box, params.align_corners)
        attention = torch.ones(samples.shape[1:])
        enough = mask[number].mean() > params.min_background
        if params.aware and enough and queries[number]:
            directions = functional.normalize(samples, dim=0, eps=EPS)
            found = [
                functional.relu(
                    (functional.normalize(q, dim=0, eps=EPS)[:, None, None] * directions).sum(dim=0)
                )
                for q in queries[number]
            ]
            attention = 1 - torch.stack(found).mean(dim=0)
        pooled.append(_windows(samples, attention, params.roi_size))
    return torch.stack(pooled), torch.stack([q for own in queries for q in own])


def _sample(features: torch.Tensor, box: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """(C, h, w) and a box to the (C, rows, columns) samples in it."""
    axes = []
    for axis, size in ((1, features.shape[1]), (0, features.shape[2])):
        low, high = ((box[k] + 1) / 2 * (size - 1) for k in (axis, axis + 2))
        number = max(1, int(high.ceil() - low.floor()))
        axes.append(torch.linspace(float(box[axis]), float(box[axis + 2]), number))
    y, x = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([x, y], dim=-1)[None]
    return functional.grid_sample(features[None], grid, align_corners=align_corners)[0]


def _windows(
    samples: torch.Tensor, attention: torch.Tensor, roi_size: tuple[int, int]
) -> torch.Tensor:
    """(windows, C) weighted means."""
    spans = []
    for size, number in zip(attention.shape, roi_size, strict=True):
        stride = size // number
        length = size - (number - 1) * stride
        if stride:
            spans.append([slice(k * stride, k * stride + length) for k in range(number)])
        else:
            spans.append([slice(min(k, size - 1), min(k, size - 1) + 1) for k in range(number)])
    means = []
    for rows in spans[0]:
        for columns in spans[1]:
            weight = attention[rows, columns]
            total = (samples[:, rows, columns] * weight).sum(dim=(1, 2))
            means.append(total / (weight.sum() + EPS))
    return torch.stack(means)
