"""The one-stage variant: anchors of a RetinaNet in the place of proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wsis.methods.bbam.proposals import ProposalParams, truncated_iou
from wsis.methods.bbam.targets import Decode, StrideParams, Target, initial_mask


class AnchorAnswers(NamedTuple):
    """A one-stage detector's answers for the R anchors of one image, level by level.

    Attributes:
        logits: (R, K) class logits, no background.
        deltas: (R, 4) raw regression.
        labels: (R,) int64 class of the highest sigmoid score, from 0.
        decoded: (R, 4) XYXY, cut to the image.
    """

    logits: Tensor
    deltas: Tensor
    labels: Tensor
    decoded: Tensor


def flatten_level(level: Tensor, per_anchor: int) -> Tensor:
    """One level of a one-stage head as rows.

    Args:
        level: (N, A per_anchor, H, W), anchors slow, their values fast.
        per_anchor: values of one anchor: K logits or 4 of the box.

    Returns:
        (N, H W A, per_anchor), rows in the order of Detectron2's and the reference's anchors.
    """
    return level.unflatten(1, (-1, per_anchor)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def read_levels(
    logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], decode: Decode
) -> AnchorAnswers:
    """All anchors of one image.

    Args:
        logits: per level (1, A K, H_l, W_l).
        deltas: per level (1, 4 A, H_l, W_l).
        anchors: per level (H_l W_l A, 4) XYXY in network pixels.
        decode: of the detector's box coder, cut to the image.
    """
    per_location = len(anchors[0]) // (logits[0].shape[-2] * logits[0].shape[-1])
    num_classes = logits[0].shape[1] // per_location
    rows = torch.cat([flatten_level(level, num_classes)[0] for level in logits])
    regression = torch.cat([flatten_level(level, 4)[0] for level in deltas])
    decoded = decode(regression, torch.cat(list(anchors)))
    return AnchorAnswers(rows, regression, rows.sigmoid().max(dim=1).indices, decoded)


def select_anchors(
    box: Tensor,
    class_index: int,
    decoded: Tensor,
    labels: Tensor,
    min_iou: float = ProposalParams.min_iou[-1],
    limit: int = ProposalParams.limit,
) -> Tensor:
    """The anchors that speak for a box: of its class, overlapping it, the best ones first.

    Args:
        box: (4,) XYXY in network pixels.
        class_index: the box's class, from 0, as the labels have it.
        decoded: (R, 4) decoded boxes.
        labels: (R,) best class of each anchor.
        min_iou: smallest IoU (strict, corners truncated).
        limit: most anchors kept.

    Returns:
        (K,) int64 anchor indices by falling IoU, ties in the order of the anchors; K <= limit.
    """
    overlap = truncated_iou(box, decoded)
    index = ((labels == class_index) & (overlap > min_iou)).nonzero()[:, 0]
    order = overlap[index].argsort(descending=True, stable=True)
    return index[order[:limit]]


@torch.no_grad()
def anchor_target(
    answers: AnchorAnswers,
    box: Tensor,
    class_index: int,
    height: int,
    width: int,
    stride_params: StrideParams,
    min_iou: float = ProposalParams.min_iou[-1],
    limit: int = ProposalParams.limit,
) -> Target:
    """The target of a given box; its proposals are anchor indices (n,).

    Use it with ``scores=torch.sigmoid`` and a detector function that takes anchor indices per
    image and returns their logits (sum n_i, K) and regressions (sum n_i, 4).

    Args:
        answers: of the unchanged image.
        box: (4,) XYXY in network pixels, cut to the image.
        class_index: the box's class, from 0.
        height, width: network size of the image.
        stride_params: resolution of the mask.
        min_iou, limit: see :func:`select_anchors`.
    """
    index = select_anchors(box, class_index, answers.decoded, answers.labels, min_iou, limit)
    scores = answers.logits[index, class_index].sigmoid()
    mask = initial_mask(answers.decoded[index], box, height, width, stride_params)
    return Target(index, class_index, scores, answers.deltas[index], mask)
