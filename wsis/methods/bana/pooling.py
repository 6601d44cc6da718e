"""Background-aware pooling: boxes of features that are pooled without their background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

from wsis.config.params import key
from wsis.config.rules import at_least, at_least_below, pair
from wsis.layers.bilinear import sample
from wsis.methods.bana.lattice import Lattice
from wsis.structures.pseudo_labels import IGNORE

EPS = 1e-12


@dataclass(frozen=True)
class PoolingParams:
    """How boxes are pooled in training; ``aware``: with background attention.

    Attributes:
        grid_size: The features of the background are averaged in a grid of G x G cells, each of which becomes a query:
            G.
        roi_size: Rows and columns of the windows that a box is pooled into.
        align_corners: Boxes and sampling points share one convention. False repeats the original release, whose samples
            are up to half a feature pixel off.
        min_background: Share of background above which an image's boxes are pooled with attention.
    """

    aware: bool = True
    grid_size: int = key(4, at_least(1))
    roi_size: tuple[int, int] = key(
        (2, 2), pair("two numbers of at least 1", lambda rows, columns: min(rows, columns) >= 1)
    )
    align_corners: bool = key(True, name="ROI_ALIGN_CORNERS")
    min_background: float = key(0.125, at_least_below(0, 1))


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


def query_weights(mask: torch.Tensor, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What pixels count in the mean background feature of each cell: M / (S_j + eps), S_j = sum_cell M.

    Args:
        mask: (N, h, w) float, 1 = background, at the features' size.
        grid: G; J = G^2 cells.

    Returns:
        (N, J, h w) weights and (N, J) counts S.
    """
    cells = grid_cells(mask.shape[1], mask.shape[2], grid).flatten()
    weights = functional.one_hot(cells, grid**2).T.to(mask) * mask.flatten(1)[:, None]
    counts = weights.sum(dim=2)
    return weights / (counts[:, :, None] + EPS), counts


def background_attention(
    samples: torch.Tensor, queries: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """A(p) = sum_j s_j ReLU(cos(r(p), q_j)).

    Args:
        samples: (T, C) features r of an image's points.
        queries: (J, C) of the image.
        shares: (J,) s, one over the number of valid cells for each of these, else 0.

    Returns:
        (T,) in [0, 1].
    """
    norms = samples.norm(dim=1, keepdim=True).clamp(min=EPS)
    cosines = samples @ functional.normalize(queries, dim=1, eps=EPS).T / norms
    return functional.relu(cosines) @ shares


def window_means(
    samples: torch.Tensor, attention: torch.Tensor, windows: torch.Tensor
) -> torch.Tensor:
    """z = sum_window a r / (sum_window a + eps).

    Args:
        samples: (T, C) features r of points.
        attention: (T,) a of each.
        windows: (..., T) bool, the points of each window.

    Returns:
        (..., C).
    """
    weights = windows * attention
    return weights / (weights.sum(dim=-1, keepdim=True) + EPS) @ samples


def background_aware_pooling(
    features: torch.Tensor,
    mask: torch.Tensor,
    lattice: Lattice,
    grid: int,
    min_background: float = PoolingParams.min_background,
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
    weights, counts = query_weights(small.to(features), grid)
    valid = counts > 0
    enough = (mask.mean(dim=(1, 2)) > min_background) & aware
    shares = (valid & enough[:, None]).to(features) / valid.sum(dim=1, keepdim=True).clamp(min=1)
    queries, attention, means = [], [], []
    # image by image: on a CPU, maps of one image are taken from memory that is at hand
    images = zip(features.unbind(), weights, shares, lattice.of_images(len(features)), strict=True)
    for own, own_weights, own_shares, (points, windows) in images:
        table = own.flatten(1).T.contiguous()
        samples = sample(table, points)
        queries.append(own_weights @ table)
        attention.append(1 - background_attention(samples, queries[-1], own_shares))
        means.append(window_means(samples, attention[-1], windows))
    return Pooled(torch.cat(means), torch.stack(queries), valid, torch.cat(attention))


def classification_targets(
    classes: torch.Tensor, windows: int, valid: torch.Tensor
) -> torch.Tensor:
    """The targets of all rows: each box's class for its windows, then background for the queries.

    Args:
        classes: (K,) int64, 1 = the first class.
        windows: per box.
        valid: (N, J) bool.

    Returns:
        (K windows + N J,) int64; 255 for a cell without background.
    """
    queries = torch.where(valid.flatten(), 0, IGNORE).to(classes)
    return torch.cat([classes.repeat_interleave(windows), queries])
