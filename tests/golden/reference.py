"""What the recorded values need beside our functions: rules of the original code that wsis itself does without."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from wsis.layers.iou import ratio
from wsis.layers.paste import bordered_crop, place_crop
from wsis.methods.bbam.box_coder import WEIGHTS, centre_form
from wsis.methods.bbam.maps import stretched
from wsis.methods.bbam.mcg import SegmentProposals, best_proposal, keep_touching, score_proposals
from wsis.methods.bbam.top_crf import Slices, cut_to
from wsis.methods.boxcaseg.transforms import nearest

PIXEL_MEAN_BGR = (102.9801, 115.9465, 122.7717)
"""Subtracted from 0-255 images in BGR order by BBAM's detector; the standard deviation is 1."""


def network_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Height and width of an image after the resize of BBAM's detector.

    Detectron2's ``ResizeShortestEdge`` rounds where this rule truncates, so the longer side can
    differ by a pixel, and it never exceeds ``longest``, while this rule can by a few pixels.

    Args:
        height, width: of the image in pixels.
        short: wanted length of the shorter side.
        longest: the shorter side shrinks where the longer one would exceed this.
    """
    low, high = float(min(height, width)), float(max(height, width))
    if high / low * short > longest:
        short = round(longest * low / high)
    if min(height, width) == short:
        return height, width
    if width < height:
        return int(short * height / width), short
    return short, int(short * width / height)


def encode(targets: Tensor, boxes: Tensor) -> Tensor:
    """The regression (N, 4) that moves boxes onto their targets, both (N, 4) XYXY with inclusive far edges: the inverse
    of :func:`wsis.methods.bbam.box_coder.decode`.
    """
    (centre, size), (target_centre, target_size) = centre_form(boxes), centre_form(targets)
    shift = (target_centre - centre) / size
    return torch.cat([shift, (target_size / size).log()], dim=1) * targets.new_tensor(WEIGHTS)


def stored_picture(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """An attribution mask (h, w) in [0, 1] as BBAM stores it, before the loss of JPEG.

    Args:
        mask: see above.
        height, width: network size of the image.

    Returns:
        (H / 2, W / 2) uint8, the sides rounded, halves to even.
    """
    return cv2.resize((mask * 255).astype(np.uint8), (round(width / 2), round(height / 2)))


def stored_map(picture: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """:func:`wsis.methods.bbam.maps.map_at_image` of a stored picture, with half-pixel centres."""
    values = stretched(picture)
    return None if values is None else cv2.resize(values, (width, height))


def refine_single(
    proposals: SegmentProposals, mask: np.ndarray, box: Slices, weights: np.ndarray | None = None
) -> np.ndarray:
    """The best MCG proposal in the place of a mask that has no partner, cut to the box.

    Args:
        proposals: of the image.
        mask: (H, W) bool.
        box: of the object.
        weights: see :func:`wsis.methods.bbam.mcg.score_proposals`.
    """
    scores = score_proposals(proposals, mask, box, weights)
    best = best_proposal(scores, keep_touching(proposals, box))
    return mask if best is None else cut_to(proposals.union(best), box)


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (H, W) as a square (S, S), its values kept."""
    return mask[nearest(mask.shape[0], size)][:, nearest(mask.shape[1], size)]


def paste_bordered(
    probability: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5
) -> np.ndarray:
    """:func:`wsis.layers.paste.bordered_crop` above a threshold, in the image: (height, width) bool."""
    crop, (x0, y0, _, _) = bordered_crop(probability, box, height, width)
    return place_crop(crop > threshold, x0, y0, height, width)


def mask_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (...) of paired masks (..., H, W), bool or integer, non-zero = inside; leading axes broadcast."""
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape[-2:] != b.shape[-2:]:
        raise ValueError(f"masks of {a.shape[-2:]} and {b.shape[-2:]} pixels")
    return ratio(*(np.count_nonzero(c, axis=(-2, -1)) for c in (a & b, a | b)))
