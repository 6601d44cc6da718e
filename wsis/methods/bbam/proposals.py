"""Which proposals speak for a box: drawn around it, kept if the detector agrees on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsis.config.params import key
from wsis.config.rules import at_least, at_least_below, each, share


@dataclass(frozen=True)
class ProposalParams:
    """Drawing and choice of proposals.

    Attributes:
        count: Proposals drawn around each box.
        jitter: Largest shift of each edge of a proposal, in box sides, below 0.5.
        min_iou: Thresholds of a positive's IoU with the box, tried in this order; the first that more than
            MAX_POSITIVES proposals pass holds, else the last one. One-stage detectors take the last one.
        limit: Most positives per box.
    """

    count: int = key(1000, at_least(1), "NUM_PROPOSALS")
    jitter: float = key(0.3, at_least_below(0, 0.5))
    min_iou: tuple[float, ...] = key((0.9, 0.85, 0.8), each("one or more numbers in [0, 1)", share))
    limit: int = key(100, at_least(1), "MAX_POSITIVES")


def box_generator(seed: int, annotation_id: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one box, the same in any batch, order or process.

    Args:
        seed: of the run.
        annotation_id: the source's id of the box.
        stream: another number gives independent random numbers for the same box.
    """
    words = [number % 2**64 for number in (seed, annotation_id, stream)]
    return np.random.Generator(np.random.PCG64(words))


def shift_box(box: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """Copies of a box, each edge shifted, cut to the image.

    Args:
        box: (4,) XYXY in network pixels.
        offsets: (N, 4) shifts of x0, y0, x1, y1 in box sides, below 0.5 so that edges keep order.
        height, width: size of the image.

    Returns:
        (N, 4) XYXY, type and device of the box.
    """
    sides = (box[2:] - box[:2]).repeat(2)
    shifted = box + offsets.to(box) * sides
    near = shifted[:, :2].clamp(min=0)
    far = torch.minimum(shifted[:, 2:], box.new_tensor([width, height]))
    return torch.cat([near, far], dim=1)


def draw_proposals(
    box: Tensor, height: int, width: int, seed: int, annotation_id: int, params: ProposalParams
) -> Tensor:
    """The proposals around a box, from the seed and the box's id alone.

    Args:
        box: (4,) XYXY in network pixels.
        height, width: network size of the image.
        seed: of the run.
        annotation_id: the source's id of the box.
        params: how many, and how far.

    Returns:
        (count, 4) XYXY, type and device of the box.
    """
    generator = box_generator(seed, annotation_id)
    offsets = generator.uniform(-params.jitter, params.jitter, (params.count, 4))
    return shift_box(box, torch.from_numpy(offsets), height, width)


def truncated_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes whose corners are truncated to integers, sides x1 - x0.

    Args:
        first, second: (..., 4) XYXY, leading axes broadcast.

    Returns:
        (...) float64 in [0, 1]; 0 where neither box has an area.
    """
    a, b = first.double().trunc(), second.double().trunc()
    overlap = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    intersection = overlap.clamp(min=0).prod(dim=-1)
    areas = (a[..., 2:] - a[..., :2]).prod(dim=-1) + (b[..., 2:] - b[..., :2]).prod(dim=-1)
    union = areas - intersection
    return torch.where(union > 0, intersection / union, torch.zeros_like(union))


def select_positives(
    box: Tensor,
    decoded: Tensor,
    agrees: Tensor,
    min_iou: Sequence[float] = ProposalParams.min_iou,
    limit: int = ProposalParams.limit,
) -> Tensor:
    """The proposals for which the detector answers with the box.

    The first threshold that more than ``limit`` proposals pass gives the first ``limit`` of these;
    if there is none, all that pass the last one are kept.

    Args:
        box: (4,) XYXY in network pixels.
        decoded: (N, 4) the detector's boxes of the class, cut to the image.
        agrees: (N,) bool, whether the detector's best class, background included, is the box's.
        min_iou: thresholds of the IoU with the box (strict), in the order in which they are tried.
        limit: most proposals kept.

    Returns:
        (K,) int64 indices in drawing order, K <= limit.
    """
    overlap = truncated_iou(box, decoded).cpu()
    agrees = agrees.cpu()
    index = torch.zeros(0, dtype=torch.int64)
    for threshold in min_iou:
        index = (agrees & (overlap > threshold)).nonzero()[:, 0]
        if len(index) > limit:
            break
    return index[:limit].to(decoded.device)
