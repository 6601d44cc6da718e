"""Losses that need a box only: tightness of the box (a bag of pixels per line, or the mask's projections), nothing
outside of it, and neighbours that agree: all of them (BBTP, BoxCaseg), or those of one colour (BoxInst).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from skimage.color import rgb2lab
from torch import Tensor
from torch.nn import functional as F

from wsis.layers.pixel_losses import dice_loss

PROJECTION_EPS = 1e-5
"""Keeps the projection of an empty box from a division by 0."""


def line_maxima(maps: Tensor) -> Tensor:
    """The largest value of every column, then of every row.

    Args:
        maps: (N, 1, H, W).

    Returns:
        (N, W + H). A gradient goes to one pixel of each line, the first of the largest.
    """
    columns, rows = (maps[:, 0].max(dim=dim).values for dim in (1, 2))
    return torch.cat([columns, rows], dim=1)


def tightness_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Multiple-instance loss of a tight box: each row and each column that meets the box has a foreground pixel, and
    the others have none.

    L_n = 1 / (W + H) sum over the lines l of BCE(max of the logits on l, max of the labels on l).

    Args:
        logits: (N, 1, H, W).
        labels: (N, 1, H, W) in [0, 1], 1 inside of the box; a mask may stand for it.

    Returns:
        (N,), one loss per sample.
    """
    bags = line_maxima(logits.float())
    targets = line_maxima(labels.float())
    return F.binary_cross_entropy_with_logits(bags, targets, reduction="none").mean(dim=1)


def projection_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The projections of a mask on both axes are those of its box (Tian et al.: *BoxInst*, CVPR 2021).

    L_n = dice(max over the rows) + dice(max over the columns), each against the same of the box; see
    :func:`wsis.layers.pixel_losses.dice_loss`.

    Args:
        logits: (N, 1, H, W).
        labels: (N, 1, H, W) in [0, 1], 1 inside of the box.

    Returns:
        (N,), in [0, 2). A gradient goes to one pixel of each line, as in :func:`line_maxima`.
    """
    sizes = [logits.shape[3], logits.shape[2]]
    found, wanted = (line_maxima(maps.float()).split(sizes, dim=1) for maps in (logits, labels))
    columns, rows = (
        dice_loss(bags, targets, PROJECTION_EPS)
        for bags, targets in zip(found, wanted, strict=True)
    )
    return columns + rows


def smoothness_loss(logits: Tensor) -> Tensor:
    """Mean squared difference of neighbouring probabilities, in all eight directions; around the map they are 0.

    L_n = 1 / (8 H W) sum over pixels p and their eight neighbours q of (s_p - s_q)^2, s = sigmoid of the logits. Pixels
    on the border are therefore pulled to 0.

    Args:
        logits: (N, 1, H, W).

    Returns:
        (N,), one loss per sample.
    """
    s = torch.sigmoid(logits[:, 0].float())
    pairs = (
        (s[:, :, 1:], s[:, :, :-1]),
        (s[:, 1:], s[:, :-1]),
        (s[:, 1:, 1:], s[:, :-1, :-1]),
        (s[:, 1:, :-1], s[:, :-1, 1:]),
    )
    inside = torch.stack([(a - b).square().sum(dim=(1, 2)) for a, b in pairs]).sum(dim=0)
    border = (s.square() * _neighbours_outside(s)).sum(dim=(1, 2))
    return (2 * inside + border) / (8 * s[0].numel())


def _neighbours_outside(maps: Tensor) -> Tensor:
    """(H, W) number of each pixel's neighbours that lie outside of the (N, H, W) maps."""
    reach = []
    for size in maps.shape[1:]:
        lines = maps.new_full((size,), 3.0)
        lines[0] -= 1
        lines[-1] -= 1
        reach.append(lines)
    return 9 - reach[0][:, None] * reach[1]


def outside_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with background of all pixels outside of the box.

    Args:
        logits: (N, 1, H, W).
        labels: (N, 1, H, W), 0 outside.

    Returns:
        (N,), the mean over the pixels outside; 0 where there are none.
    """
    outside = labels == 0
    loss = (F.softplus(logits.float()) * outside).sum(dim=(1, 2, 3))
    return loss / outside.sum(dim=(1, 2, 3)).clamp(min=1)


def cielab(pixels: Tensor) -> Tensor:
    """(N, 3, h, w) RGB in [0, 1] to CIELAB, on the same device."""
    colours = rgb2lab(pixels.detach().float().cpu().numpy(), channel_axis=1)
    return torch.from_numpy(colours).float().to(pixels.device)


def affinity_loss(
    logits: Tensor,
    colours: Tensor,
    labels: Tensor,
    *,
    distance: int = 2,
    scale: float = 2.0,
    threshold: float = 0.3,
) -> Tensor:
    """Pixels of one colour belong together (Tian et al.: *BoxInst*, CVPR 2021).

    An edge joins a pixel with each of the eight pixels ``distance`` away from it. Both have the same label with the
    probability P = s_p s_q + (1 - s_p)(1 - s_q), s = sigmoid of the logits, and L_n is the mean of -log P over the
    edges with a pixel in the box whose colours have exp(-|c_p - c_q| / scale) >= threshold, each taken once.

    Args:
        logits: (N, 1, H, W).
        colours: (N, C, H, W), CIELAB in BoxInst.
        labels: (N, 1, H, W), not 0 inside of the box.
        distance: of an edge's pixels, in rows, columns or both.
        scale: of the difference of colours.
        threshold: on the similarity, in (0, 1].

    Returns:
        (N,), one loss per sample; 0 where no edge counts.
    """
    maps = logits[:, 0].float(), colours, labels[:, 0] != 0
    inside, outside = F.logsigmoid(maps[0]), F.logsigmoid(-maps[0])
    total, count = logits.new_zeros(2, len(logits), dtype=torch.float32)
    for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1)):
        p, q = _shifted(distance * rows, distance * columns)
        same = torch.logaddexp(inside[p] + inside[q], outside[p] + outside[q])
        alike = (colours[p] - colours[q]).norm(dim=1) <= -scale * math.log(threshold)
        counted = alike & (maps[2][p] | maps[2][q])
        total = total - (same * counted).sum(dim=(1, 2))
        count = count + counted.sum(dim=(1, 2))
    return total / count.clamp(min=1)


def _shifted(rows: int, columns: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What to take of maps (..., H, W), so that the second pixel lies so many rows and columns after the first."""

    def pair(step: int) -> tuple[slice, slice]:
        ends = slice(None, -abs(step) or None), slice(abs(step), None)
        return ends if step >= 0 else ends[::-1]

    first, second = zip(pair(rows), pair(columns), strict=True)
    return (..., *first), (..., *second)
