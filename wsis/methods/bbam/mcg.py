"""Masks refined by MCG segment proposals, which are unions of superpixels.

Everything is counted per superpixel once; a proposal's numbers are sums over its superpixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from wsis.data.mat_files import read_mat
from wsis.methods.bbam.top_crf import Slices, box_area, cut_to

MIN_BOX_AREA = 32 * 32
"""Smaller boxes keep their masks."""
INSIDE = 0.95
"""A proposal lies inside a region if more than this share of it does."""


@dataclass(frozen=True)
class SegmentProposals:
    """The proposals of one image.

    Attributes:
        superpixels: (H, W) integer labels, from 1.
        members: (P, L + 1) bool, whether proposal p contains superpixel l; column 0 is False.
    """

    superpixels: np.ndarray
    members: np.ndarray

    @classmethod
    def from_lists(
        cls, superpixels: np.ndarray, proposals: Sequence[np.ndarray]
    ) -> SegmentProposals:
        """From the superpixel labels of each proposal.

        Args:
            superpixels: (H, W) integer labels, from 1.
            proposals: P arrays of labels.

        Raises:
            ValueError: a proposal names a superpixel that the image lacks, or labels beyond 0 to H W.
        """
        lowest, highest = int(superpixels.min(initial=0)), int(superpixels.max(initial=0))
        if lowest < 0 or highest > superpixels.size:
            raise ValueError(f"superpixels {lowest} to {highest} in {superpixels.size} pixels")
        count = highest + 1
        members = np.zeros((len(proposals), count), dtype=bool)
        for row, labels in zip(members, proposals, strict=True):
            if labels.size and not 1 <= labels.min() <= labels.max() < count:
                raise ValueError(
                    f"superpixels {labels.min()} to {labels.max()}, expected 1 to {count - 1}"
                )
            row[labels.astype(np.int64)] = True
        return cls(superpixels, members)

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """Per superpixel, the sum of a (H, W) map: (L + 1,) float64."""
        return np.bincount(
            self.superpixels.ravel(),
            weights=np.asarray(weights, dtype=np.float64).ravel(),
            minlength=self.members.shape[1],
        )

    def union(self, chosen: np.ndarray) -> np.ndarray:
        """The pixels of proposals: (P,) bool to (H, W) bool."""
        return self.members[chosen].any(axis=0)[self.superpixels]


class ProposalScores(NamedTuple):
    """How P proposals fit one mask in one box.

    Attributes:
        iou: (P,) float64 overlap with the mask.
        in_box: (P,) bool, whether nearly all of a proposal lies in the box.
        in_mask: (P,) bool, whether nearly all of it lies in the mask.
    """

    iou: np.ndarray
    in_box: np.ndarray
    in_mask: np.ndarray


def load_mcg(path: str | os.PathLike[str]) -> SegmentProposals:
    """Reads the ``.mat`` file of one image: its variables ``superpixels`` and ``labels``.

    Raises:
        DataError: the file is missing, unreadable, or not of this form.
    """

    def proposals(found: dict[str, Any]) -> SegmentProposals:
        lists = [np.asarray(cell).ravel() for cell in found["labels"].ravel()]
        superpixels = found["superpixels"].astype(np.int64)
        if superpixels.ndim != 2:
            raise ValueError(f"superpixels of {superpixels.ndim} axes")
        return SegmentProposals.from_lists(superpixels, lists)

    variables = ("superpixels", "labels")
    return read_mat(path, variables, proposals, "an MCG file with variables superpixels and labels")


def keep_touching(proposals: SegmentProposals, box: Slices) -> np.ndarray:
    """(P,) bool: whether each superpixel of a proposal has a pixel in the box."""
    inside = np.bincount(proposals.superpixels[box].ravel(), minlength=proposals.members.shape[1])
    return np.asarray(~proposals.members[:, inside == 0].any(axis=1))


def score_proposals(
    proposals: SegmentProposals, mask: np.ndarray, box: Slices, weights: np.ndarray | None = None
) -> ProposalScores:
    """How all proposals fit a mask in its box.

    Args:
        proposals: of the image.
        mask: (H, W) bool.
        box: of the object.
        weights: (H, W) float, what a pixel counts, default 1. The published files come from row +
            column index.
    """
    pixel = np.ones(mask.shape) if weights is None else weights
    boxed = np.zeros(mask.shape)
    boxed[box] = pixel[box]
    members = proposals.members.astype(np.float64)
    size, in_box, in_mask = (members @ proposals.sums(w) for w in (pixel, boxed, pixel * mask))
    union = size + (pixel * mask).sum() - in_mask
    return ProposalScores(
        _ratio(in_mask, union), _ratio(in_box, size) > INSIDE, _ratio(in_mask, size) > INSIDE
    )


def refine_pair(
    proposals: SegmentProposals,
    foreground: np.ndarray,
    region: np.ndarray,
    box: Slices,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Best proposal and all that lie inside the mask, for both masks of a box.

    Args:
        proposals: of the image.
        foreground: (H, W) bool.
        region: (H, W) bool, foreground or uncertain.
        box: of the object.
        weights: see :func:`score_proposals`.

    Returns:
        Both masks (H, W) bool, refined or, for want of a proposal, those given; a refined region contains the refined
        foreground inside the box.
    """
    kept = keep_touching(proposals, box)
    found: list[np.ndarray | None] = []
    for mask in (foreground, region):
        scores = score_proposals(proposals, mask, box, weights)
        best = best_proposal(scores, kept)
        found.append(None if best is None else proposals.union(best | (kept & scores.in_mask)))
    inner, outer = found
    first = foreground if inner is None else cut_to(inner, box)
    if outer is None:
        return first, region
    return first, cut_to(outer | (foreground if inner is None else inner), box)


def refine_box(
    proposals: SegmentProposals, foreground: np.ndarray, region: np.ndarray, box: Slices
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`refine_pair`, save that small boxes keep their masks."""
    if box_area(box) < MIN_BOX_AREA:
        return foreground, region
    return refine_pair(proposals, foreground, region, box)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def best_proposal(scores: ProposalScores, kept: np.ndarray) -> np.ndarray | None:
    """The proposal of the highest IoU in the box.

    Args:
        scores: of P proposals.
        kept: (P,) bool, those that may be chosen.

    Returns:
        (P,) bool with the first of the best, None if no IoU is above 0.
    """
    iou = np.where(kept & scores.in_box, scores.iou, 0.0)
    if not (iou > 0).any():
        return None
    return np.arange(len(iou)) == iou.argmax()
