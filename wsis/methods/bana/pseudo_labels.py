"""From features, boxes and the classifier to two semantic labels.

A box is the slices of the pixels it touches; a label is 0 for background, a class's number plus 1, or 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from wsis.config.params import key, part
from wsis.config.rules import within
from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.layers.enlarged import EPS
from wsis.layers.label_to_masks import ImageBoxes, Slices, union
from wsis.structures.pseudo_labels import IGNORE

LABELS = ("y_crf", "y_ret", "intersection")
"""Names of the semantic labels; the third is the first where the second agrees, else 255."""


class Features(Protocol):
    """What the labels need of the features at the image's size: see :class:`wsis.layers.enlarged.Enlarged`."""

    size: tuple[int, int]

    def products(self, vectors: torch.Tensor) -> torch.Tensor:
        """v . f(p), (M, C) to (M, H, W)."""

    def cosines(self, vectors: torch.Tensor) -> torch.Tensor:
        """cos(v, f(p)), (M, C) to (M, H, W)."""

    def mean(self, mask: torch.Tensor) -> torch.Tensor:
        """Mean over a (H, W) bool mask, (C,)."""


@dataclass(frozen=True)
class LabelParams:
    """Constants of the labels.

    Attributes:
        threshold: Background attention below this share of the image's highest counts as none.
        use_attention: The background attention u0 takes part in the pseudo labels. False leaves it out ("w/o u0"):
            inside boxes nothing speaks for background before the CRF.
    """

    crf: DenseCRFParams = part(
        DenseCRFParams(3.0, 3.0, 4.0, 55.0, 3.0, iterations=10), "CRF", "This CRF makes Y_crf."
    )
    threshold: float = key(0.99, within(0, 1), "BG_THRESHOLD")
    use_attention: bool = key(True)


def background_attention(
    features: Features, background: torch.Tensor, threshold: float
) -> torch.Tensor:
    """A(p) = ReLU(cos(q, f(p))) with q the mean feature of the background; 0 below the threshold's share of its
    highest value in the whole image, and everywhere if there is no background. (H, W).
    """
    if not background.any():
        return torch.zeros(features.size)
    attention = features.cosines(features.mean(background)[None])[0].relu()
    return attention * (attention >= threshold * attention.max())


def background_score(products: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """The background's own class activation in place of u_0: ReLU(w_0 . f), 0 inside boxes, divided by its maximum.

    Args:
        products: (H, W) w_0 . f.
        inside: (H, W) bool, some box.
    """
    score = products.relu() * ~inside
    return score / (score.max() + EPS)


def class_activation(products: torch.Tensor, boxes: Sequence[Slices]) -> torch.Tensor:
    """u_c: ReLU(w_c . f), in each box divided by its maximum there; a later box overwrites an earlier one.

    Args:
        products: (H, W) w_c . f.
        boxes: of the class, in the order of the annotations.

    Returns:
        (H, W) in [0, 1], 0 outside of the boxes.
    """
    score = products.relu()
    out = torch.zeros_like(score)
    for box in boxes:
        out[box] = score[box] / (score[box].max() + EPS)
    return out


def unary_probabilities(unaries: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Softmax over the channels inside boxes, as they are outside: (1 + M, H, W) and (H, W) bool to (1 + M, H, W)."""
    return torch.where(inside, unaries.softmax(dim=0), unaries)


def best_label(scores: torch.Tensor, regions: torch.Tensor, present: Sequence[int]) -> np.ndarray:
    """The label of the highest channel at each pixel, a class counting in its own boxes only; the first channel wins.

    Args:
        scores: (1 + M, H, W), at least 0, background first.
        regions: (M, H, W) bool.
        present: M labels.

    Returns:
        (H, W) uint8.
    """
    masked = torch.cat([scores[:1], scores[1:] * regions])
    return np.array([0, *present], dtype=np.uint8)[masked.numpy().argmax(axis=0)]


def class_unaries(
    features: Features,
    boxes: ImageBoxes,
    weights: torch.Tensor,
    rows: Sequence[int | None],
    params: LabelParams,
) -> torch.Tensor:
    """u_0 and u_c of all present classes; arguments as :func:`semantic_labels`. (1 + M, H, W)."""
    inside = union(boxes.boxes, boxes.size)
    present = boxes.present
    own = [rows[label - 1] for label in present]
    products = features.products(weights[[0, *(row for row in own if row is not None)]])
    if params.use_attention:
        attention = background_attention(features, boxes.background, params.threshold)
        background = torch.where(inside, attention, 1.0)
    else:
        background = background_score(products[0], inside)
    maps, known = [background], iter(products[1:])
    for label, row in zip(present, own, strict=True):
        if row is None:  # a class that the classifier lacks is what is not background
            maps.append((1 - background) * union(boxes.boxes_of(label), boxes.size))
        else:
            maps.append(class_activation(next(known), boxes.boxes_of(label)))
    return torch.stack(maps)


def retrieval_maps(
    features: Features,
    boxes: ImageBoxes,
    weights: torch.Tensor,
    rows: Sequence[int | None],
    y_crf: np.ndarray,
    unaries: torch.Tensor,
) -> torch.Tensor:
    """R_c(p) = ReLU(cos(prototype_c, f(p))), prototype_c the mean feature of Y_crf = c; R_0 = 1 outside of all boxes.
    Regions that the teacher knows nothing of do not count in the mean.

    Where Y_crf lacks the class the classifier's row is the prototype, and where there is none the unary map stands in.
    So it is for the background of an image that has none for certain.

    Args:
        features, boxes, weights, rows: as :func:`semantic_labels`.
        y_crf: (H, W).
        unaries: (1 + M, H, W).

    Returns:
        (1 + M, H, W), each class 0 outside of its own boxes.
    """
    inside = union(boxes.boxes, boxes.size)
    vectors: list[torch.Tensor] = []
    unary: list[int] = []
    for i, label in enumerate([0, *boxes.present]):
        row = rows[label - 1] if label else 0
        found = torch.from_numpy(y_crf == label) & (inside | boxes.background)
        if found.any() and (label or boxes.background.any()):
            vectors.append(features.mean(found))
        elif row is not None:
            vectors.append(weights[row])
        else:
            vectors.append(torch.zeros_like(weights[0]))
            unary.append(i)
    maps = features.cosines(torch.stack(vectors)).relu()
    maps[unary] = unaries[unary]
    maps[1:] *= boxes.regions()
    maps[0] = torch.where(inside, maps[0], 1.0)
    return maps


def intersection(y_crf: np.ndarray, y_ret: np.ndarray) -> np.ndarray:
    """Where both labels agree, else 255; (H, W) uint8."""
    return np.where(y_crf == y_ret, y_crf, IGNORE).astype(np.uint8)


def semantic_labels(
    image: np.ndarray,
    features: Features,
    boxes: ImageBoxes,
    weights: torch.Tensor,
    rows: Sequence[int | None],
    params: LabelParams,
) -> tuple[np.ndarray, np.ndarray]:
    """Y_crf and Y_ret of one image.

    Args:
        image: (H, W, 3) uint8 RGB.
        features: at the image's size.
        boxes: of the image.
        weights: (rows, C) of the classifier, background first.
        rows: of each class of the dataset, its row of the classifier; None = the classifier does not know it.
        params: the constants.

    Returns:
        Two (H, W) uint8; all background for an image without boxes.
    """
    if not len(boxes.boxes):
        nothing = np.zeros(boxes.size, dtype=np.uint8)
        return nothing, nothing.copy()
    present, regions = boxes.present, boxes.regions()
    unaries = class_unaries(features, boxes, weights, rows, params)
    probabilities = unary_probabilities(unaries, union(boxes.boxes, boxes.size))
    marginals = torch.from_numpy(dense_crf(image, probabilities.numpy(), params.crf))
    y_crf = best_label(marginals, regions, present)
    maps = retrieval_maps(features, boxes, weights, rows, y_crf, unaries)
    return y_crf, best_label(maps, regions, present)
