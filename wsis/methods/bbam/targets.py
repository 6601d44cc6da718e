"""What a mask must preserve: the proposals of a box, the detector's answers, and the first mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsis.config.params import key
from wsis.config.rules import above, at_least
from wsis.methods.bbam.proposals import ProposalParams, select_positives

Forward = Callable[[Tensor, list[Tensor]], tuple[Tensor, Tensor]]
"""A detector: images (B, 3, H, W) and, per image, proposals (n_i, 4) XYXY in network pixels, to
class logits (sum n_i, C) and raw regressions (sum n_i, 4 K), or (sum n_i, 4) if these do not depend
on the class, in the order of the proposals. Column c of the logits and columns 4c to 4c + 3 of the
regressions belong to class c, wherever background stands. It must be differentiable in the images
and in eval mode. Without gradient it may be given many thousand proposals."""

Scores = Callable[[Tensor], Tensor]
"""Logits (N, C) to probabilities (N, C): a softmax, or a sigmoid for one-stage detectors."""

Decode = Callable[[Tensor, Tensor], Tensor]
"""Regressions (N, 4) and proposals (N, 4) to boxes (N, 4) XYXY cut to the image."""


@dataclass(frozen=True)
class StrideParams:
    """Resolution of a mask: one cell is base + slope sqrt(area share) network pixels wide.

    Attributes:
        base: Width of a mask's cell in network pixels for a box without area; STRIDE_SLOPE sqrt(box area / image area)
            is added to it.
        slope: What the width of a mask's cell has more for a box that fills the image.
    """

    base: float = key(16.0, above(0), "STRIDE_BASE")
    slope: float = key(48.0, at_least(0), "STRIDE_SLOPE")

    def stride(self, area_share: float) -> float:
        """Pixels per cell for a box that covers this share of the image."""
        return self.base + self.slope * math.sqrt(area_share)


@dataclass(frozen=True)
class Target:
    """What the mask of one box must preserve.

    Attributes:
        proposals: (n, 4) the positives, n may be 0; passed to the detector as it is.
        class_index: column of the logits.
        scores: (n,) clean probability of the class.
        deltas: (n, 4) clean raw regression of the class.
        mask: (h, w) first mask, 0 and 1; all 0 without positives.
    """

    proposals: Tensor
    class_index: int
    scores: Tensor
    deltas: Tensor
    mask: Tensor


def size_of(image: Tensor) -> tuple[int, int]:
    """Height and width of an image (..., H, W)."""
    return image.shape[-2], image.shape[-1]


def softmax_scores(logits: Tensor) -> Tensor:
    """Probabilities of a detector whose classes, background among them, exclude each other."""
    return logits.softmax(dim=1)


def class_deltas(deltas: Tensor, classes: Tensor) -> Tensor:
    """The regression of one class per row.

    Args:
        deltas: (N, 4 K), or (N, 4) if it does not depend on the class.
        classes: (N,) int64 in [0, K).

    Returns:
        (N, 4).
    """
    if deltas.shape[1] == 4:
        return deltas
    rows = torch.arange(len(deltas), device=deltas.device)
    return deltas.unflatten(1, (-1, 4))[rows, classes]


def mask_size(height: int, width: int, stride: float) -> tuple[int, int]:
    """Rows and columns of a mask with so many pixels per cell, at least one of each."""
    return max(int(height / stride), 1), max(int(width / stride), 1)


def covered_cells(boxes: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """The union of the cells of boxes: from that of the near edge to before that of the far one.

    Args:
        boxes: (n, 4) XYXY in network pixels, at least 0.
        size: rows and columns of the mask.
        stride: pixels per cell.

    Returns:
        (h, w) 0 and 1, type and device of the boxes; nothing for boxes thinner than a cell.
    """
    edges = (boxes.double() / stride).trunc()

    def span(low: Tensor, high: Tensor, length: int) -> Tensor:
        index = torch.arange(length, device=boxes.device)
        return (index >= low[:, None]) & (index < high[:, None])

    rows = span(edges[:, 1], edges[:, 3], size[0]).to(boxes)
    columns = span(edges[:, 0], edges[:, 2], size[1]).to(boxes)
    return (rows.T @ columns > 0).to(boxes)


def initial_mask(
    decoded: Tensor, box: Tensor, height: int, width: int, params: StrideParams
) -> Tensor:
    """The mask before the first step: 1 on what the positives cover.

    Where they cover no cell, the cell at the box's centre is 1.

    Args:
        decoded: (n, 4) the positives' decoded boxes, cut to the image.
        box: (4,) XYXY whose area decides the resolution, in network pixels.
        height, width: network size of the image.
        params: resolution rule.

    Returns:
        (h, w) 0 and 1, type and device of the boxes; all 0 if there is no positive.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    stride = params.stride(max(x1 - x0, 0.0) * max(y1 - y0, 0.0) / (height * width))
    h, w = mask_size(height, width, stride)
    mask = covered_cells(decoded, (h, w), stride)
    if len(decoded) and not mask.any():
        row = min(max(int((y0 + y1) / 2 / stride), 0), h - 1)
        mask[row, min(max(int((x0 + x1) / 2 / stride), 0), w - 1)] = 1
    return mask


@torch.no_grad()
def box_targets(
    forward: Forward,
    image: Tensor,
    boxes: Tensor,
    classes: Sequence[int],
    proposals: Sequence[Tensor],
    decode: Decode,
    proposal_params: ProposalParams,
    stride_params: StrideParams,
) -> list[Target]:
    """The targets of given boxes of one image, from one pass over the unchanged image.

    Args:
        forward: the detector.
        image: (3, H, W) mean-subtracted.
        boxes: (G, 4) XYXY in network pixels, cut to the image.
        classes: G columns of the logits.
        proposals: G tensors (N_g, 4), see :func:`wsis.methods.bbam.proposals.draw_proposals`.
        decode: of the detector's box coder.
        proposal_params: choice of positives.
        stride_params: resolution of the masks.

    Returns:
        G targets in the order of the boxes.
    """
    if len(boxes) == 0:
        return []
    counts = [len(part) for part in proposals]
    logits, deltas = forward(image[None], [torch.cat(list(proposals))])
    targets = []
    parts = zip(boxes, classes, proposals, logits.split(counts), deltas.split(counts), strict=True)
    for box, class_index, drawn, own_logits, own_deltas in parts:
        chosen = class_deltas(own_deltas, torch.full_like(own_logits[:, 0], class_index).long())
        decoded = decode(chosen, drawn)
        agrees = own_logits.argmax(dim=1) == class_index
        rule = proposal_params.min_iou, proposal_params.limit
        index = select_positives(box, decoded, agrees, *rule)
        scores = softmax_scores(own_logits[index])[:, class_index]
        mask = initial_mask(decoded[index], box, *size_of(image), stride_params)
        targets.append(Target(drawn[index], class_index, scores, chosen[index], mask))
    return targets


def detection_targets(
    proposals: Tensor,
    classes: Tensor,
    scores: Tensor,
    deltas: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    stride_params: StrideParams,
) -> list[Target]:
    """The targets of N detections, each with the one proposal that it came from (demo mode).

    Args:
        proposals: (N, 4) XYXY in network pixels, or (N,) anchor numbers.
        classes: (N,) int64 columns of the logits.
        scores: (N,) clean probabilities of the classes.
        deltas: (N, 4) clean raw regressions of the classes.
        boxes: (N, 4) XYXY that these decode to, cut to the image.
        size: network size of the image, height and width.
        stride_params: resolution of the masks.
    """
    return [
        Target(
            proposals[i : i + 1],
            int(classes[i]),
            scores[i : i + 1],
            deltas[i : i + 1],
            initial_mask(boxes[i : i + 1], boxes[i], *size, stride_params),
        )
        for i in range(len(boxes))
    ]
