"""ICAM with boxes instead of tags: what its losses and maps become where each object's box is known.

Maps are (N, C, h, w) probabilities of the classes; a box belongs to image ``images[k]`` and class ``classes[k]``, and
its coverage (h, w) is the share of each cell's area that it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wsis.layers.affinity import pair_offsets
from wsis.layers.box_losses import tightness_loss
from wsis.layers.box_maps import BoxMapParams
from wsis.layers.seeds import EPS
from wsis.methods.icam.losses import PMF_FLOOR, probability_logit
from wsis.structures import Crop
from wsis.structures.boxes import box_to_slices


@dataclass(frozen=True)
class BoxBatch:
    """The K boxes of a batch.

    Attributes:
        boxes: (K, 4) XYXY in pixels.
        images: (K,) int64, index in the batch.
        classes: (K,) int64, from 0.
    """

    boxes: Tensor
    images: Tensor
    classes: Tensor

    def coverage(self, image_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """(K, h, w) of each box, see :func:`box_coverage`."""
        scale = self.boxes.new_tensor([size[1] / image_size[1], size[0] / image_size[0]] * 2)
        return box_coverage(self.boxes * scale, size)


def box_coverage(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The share of each cell that a box covers; of a box that covers nothing, the cell with its centre.

    Args:
        boxes: (K, 4) XYXY in cells.
        size: height and width of the map.

    Returns:
        (K, h, w) in [0, 1].
    """
    shares = []
    for axis, length in ((1, size[0]), (0, size[1])):
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        starts = torch.arange(length, device=boxes.device)
        share = (torch.minimum(high, starts + 1) - torch.maximum(low, starts)).clamp(0, 1)
        centre = ((low + high) / 2).floor().clamp(0, length - 1)
        nothing = share.sum(dim=1, keepdim=True) == 0
        shares.append(torch.where(nothing, (starts == centre).to(share), share))
    return shares[0][:, :, None] * shares[1][:, None]


def class_coverage(coverage: Tensor, batch: BoxBatch, images: int, classes: int) -> Tensor:
    """(N, C, h, w): the largest coverage by a box of each image and class, 0 where there is none."""
    cells = coverage.flatten(1)
    rows = (batch.images * classes + batch.classes)[:, None].expand_as(cells)
    out = cells.new_zeros(images * classes, cells.shape[1]).scatter_reduce_(0, rows, cells, "amax")
    return out.view(images, classes, *coverage.shape[1:])


def inside_loss(probabilities: Tensor, coverage: Tensor) -> Tensor:
    """Mean over boxes of the expected importance-sampling loss of a bag that is positive: cells are weighted with
    probability and coverage, and the weights are constants.

    Args:
        probabilities: (K, h, w) of each box's class.
        coverage: (K, h, w).
    """
    weights = (probabilities.detach() + PMF_FLOOR) * coverage
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    losses = -functional.logsigmoid(probability_logit(probabilities))
    return (weights * losses).sum(dim=(1, 2)).sum() / max(1, len(coverage))


def outside_loss(probabilities: Tensor, covered: Tensor) -> Tensor:
    """Binary cross-entropy of what cannot be of a class, as it lies outside of all its boxes: weighted mean.

    Args:
        probabilities: (N, C, h, w).
        covered: (N, C, h, w), see :func:`class_coverage`.
    """
    losses, weights = functional.softplus(probability_logit(probabilities)), 1 - covered
    return (weights * losses).sum() / weights.sum().clamp(min=1)


def box_tightness(probabilities: Tensor, coverage: Tensor) -> Tensor:
    """Mean over boxes of :func:`wsis.layers.box_losses.tightness_loss`: each row and column of cells that a box meets
    has an object.

    Args:
        probabilities, coverage: (K, h, w).
    """
    logits = probability_logit(probabilities * (coverage > 0))
    losses = tightness_loss(logits[:, None], (coverage[:, None] > 0).to(logits))
    return losses.sum() / max(1, len(coverage))


def allowed_by_boxes(boxes: Tensor, classes: Tensor, size: tuple[int, int], number: int) -> Tensor:
    """The prior of one image's boxes: (1, C + 1, h, w), 1 for the background, and for each class the coverage by all
    its boxes, at most 1.

    Args:
        boxes: (K, 4) XYXY in cells.
        classes: (K,) int64, from 0.
        size: height and width of the map.
        number: C.
    """
    out = boxes.new_zeros(number + 1, *size)
    out.index_add_(0, classes + 1, box_coverage(boxes, size))
    out[0] = 1
    return out.clamp(max=1)[None]


def box_masks(
    maps: np.ndarray, rows: np.ndarray, boxes: np.ndarray, image: np.ndarray, params: BoxMapParams
) -> tuple[list[Crop], list[float], list[str]]:
    """One mask per box from maps of classes, each pixel in one at most.

    In a box its class's map is divided by its largest value there.

    Args:
        maps: (M, H, W) float32, at least 0.
        rows: (K,) of each box, which map is its class's.
        boxes: (K, 4) XYXY in pixels.
        image: (H, W, 3) uint8.
        params: how a box's map becomes its mask.

    Returns:
        See :func:`disjoint_masks`.
    """
    windows = [box_to_slices(box, *maps.shape[1:]) for box in boxes]
    own = [maps[(row, *window)] for row, window in zip(rows, windows, strict=True)]
    own = [scores / (scores.max() + EPS) for scores in own]
    masks = [
        params.mask(scores, image[window]) for scores, window in zip(own, windows, strict=True)
    ]
    return disjoint_masks(own, masks, windows, maps.shape[1:])


def disjoint_masks(
    own: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    windows: Sequence[tuple[slice, slice]],
    size: tuple[int, ...],
) -> tuple[list[Crop], list[float], list[str]]:
    """Of each box the part of its mask where its score is the largest, of equal ones that of the smallest box. A box
    without any pixel gets its best ones.

    Args:
        own: (h, w) scores of each box in its window.
        masks: (h, w) bool of each.
        windows: rows and columns of each.
        size: height and width of the image.

    Returns:
        Of each box the mask, the mean of its scores there, and the status, "ok" or "fallback".
    """
    best, owner = np.zeros(size, np.float32), np.full(size, -1)
    for i in np.argsort([-scores.size for scores in own], kind="stable"):
        wins = own[i] >= best[windows[i]]
        best[windows[i]][wins], owner[windows[i]][wins] = own[i][wins], i
    crops, scores, status = [], [], []
    for i, (rows_of, columns) in enumerate(windows):
        mask = masks[i] & (owner[windows[i]] == i)
        status.append("ok" if mask.any() else "fallback")
        if not mask.any():
            mask = own[i] == own[i].max()
        crops.append((mask, columns.start, rows_of.start))
        scores.append(float(own[i][mask].mean().clip(0, 1)))
    return crops, scores, status


def pairs_in_window(affinity: Tensor, radius: int, rows: slice, columns: slice) -> Tensor:
    """The affinities of those pairs whose cells both lie in a window, else 0.

    Args:
        affinity: (D, H, W), see :func:`wsis.layers.random_walk.pairs_of_window`.
        radius: of the pairs.
        rows, columns: of the window.

    Returns:
        (D, h, w).
    """
    out = affinity[:, rows, columns].clone()
    height, width = out.shape[1:]
    for number, (dy, dx) in enumerate(pair_offsets(radius)):
        out[number, max(0, height - dy) :] = 0
        out[number, :, max(0, width - dx) :] = 0
        out[number, :, : max(0, -dx)] = 0
    return out
