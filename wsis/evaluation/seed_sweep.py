"""mIoU of score maps for every background constant of a sweep, from one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from wsis.layers.seg_metrics import SemanticScores, semantic_scores
from wsis.structures.pseudo_labels import IGNORE

THRESHOLDS = tuple(round(0.01 * i, 2) for i in range(20, 45))
"""The background constants that seeds are published with."""


class SweepScores(NamedTuple):
    """What a sweep gives.

    Attributes:
        thresholds: T background constants.
        mean_iou: (T,) float64 of each.
        best: the constant of the largest one, the lowest of equals.
        scores: all scores of that constant.
    """

    thresholds: tuple[float, ...]
    mean_iou: np.ndarray
    best: float
    scores: SemanticScores


class SeedSweep:
    """Label maps of score maps beside a constant background score t, for T constants at once.

    Whatever t is, a pixel is either background or of the class c of its largest score s, namely where s > t. So the
    number of pixels by true class, c and number of constants below s holds the confusion matrices of all constants.

    Args:
        num_classes: C, background included.
        thresholds: T constants, rising.

    Raises:
        ValueError: no constant, or they do not rise.
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float] = THRESHOLDS) -> None:
        if not len(thresholds) or not (np.diff(thresholds) > 0).all():
            raise ValueError(f"thresholds are {list(thresholds)}, expected one or more that rise")
        self.num_classes, self.thresholds = num_classes, tuple(map(float, thresholds))
        self._counts = torch.zeros(num_classes**2 * (len(thresholds) + 1), dtype=torch.int64)

    def add(
        self, maps: ArrayLike, labels: Sequence[int], target: ArrayLike, ignore_label: int = IGNORE
    ) -> None:
        """Counts the pixels of one image.

        Args:
            maps: (K, H, W) float scores of the classes at hand, K may be 0.
            labels: K values in [1, C) that they stand for.
            target: (H, W) integers in [0, C), or ``ignore_label`` (pixel left out).
            ignore_label: the target's void label.

        Raises:
            ValueError: shapes differ, or a label outside the classes.
        """
        scores, truth = torch.as_tensor(maps), torch.as_tensor(target)
        if (len(labels), *truth.shape) != scores.shape:
            raise ValueError(
                f"maps are {tuple(scores.shape)}, target {tuple(truth.shape)}, {len(labels)} labels"
            )
        rows = truth.flatten().long()
        known = rows != ignore_label
        for name, values in (("target", rows[known]), ("labels", torch.as_tensor(labels))):
            if ((values < 0) | (values >= self.num_classes)).any():
                raise ValueError(f"{name} hold a label that is not in 0..{self.num_classes - 1}")
        if len(labels):
            largest, winner = scores.flatten(1).max(dim=0)
            columns = torch.as_tensor(labels)[winner]
            passed = torch.bucketize(largest, torch.tensor(self.thresholds, dtype=largest.dtype))
        else:
            columns = passed = torch.zeros_like(rows)
        cells = (rows * self.num_classes + columns) * (len(self.thresholds) + 1) + passed
        self._counts += torch.bincount(cells[known], minlength=len(self._counts))

    def confusions(self) -> np.ndarray:
        """(T, C, C) int64 of the thresholds, rows true class; add those of several processes."""
        counts = self._counts.view(self.num_classes, self.num_classes, -1).numpy()
        found = counts[:, :, ::-1].cumsum(axis=2)[:, :, -2::-1]
        found[:, 0] += counts.sum(axis=(1, 2))[:, None] - found.sum(axis=1)
        return np.moveaxis(found, 2, 0)

    def scores(self) -> SweepScores:
        """Of all images so far."""
        return sweep_scores(self.confusions(), self.thresholds)


def sweep_scores(confusions: np.ndarray, thresholds: Sequence[float]) -> SweepScores:
    """Scores of :meth:`SeedSweep.confusions`, summed over processes.

    Args:
        confusions: (T, C, C).
        thresholds: T.
    """
    found = [semantic_scores(each) for each in confusions]
    mean_iou = np.array([each.mean_iou for each in found])
    best = int(np.nan_to_num(mean_iou).argmax())
    return SweepScores(tuple(thresholds), mean_iou, thresholds[best], found[best])
