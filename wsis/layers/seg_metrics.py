"""Semantic segmentation scores from one confusion matrix over a whole data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsis.structures.pseudo_labels import IGNORE


def confusion_matrix(
    prediction: np.ndarray, target: np.ndarray, num_classes: int, ignore_label: int = IGNORE
) -> np.ndarray:
    """Pixel counts by true and predicted class; add the matrices of several images.

    To let unlabelled predictions (255) count as misses, give them the extra class ``num_classes``
    and ask for one class more; to leave them out, set the target there to ``ignore_label``.

    Args:
        prediction: integer array, any shape, values in [0, num_classes) wherever the target counts.
        target: same shape, values in [0, num_classes) or ``ignore_label`` (pixel left out).
        num_classes: C, background included.
        ignore_label: the target's void label.

    Returns:
        (C, C) int64, rows true class, columns predicted class.

    Raises:
        ValueError: shapes differ, or a label outside the classes (it would wrap into another row).
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction is {prediction.shape}, target {target.shape}")
    counted = target != ignore_label
    rows = target[counted].astype(np.int64)
    columns = prediction[counted].astype(np.int64)
    for name, labels in (("target", rows), ("prediction", columns)):
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if wrong.size:
            raise ValueError(f"{name} holds label {wrong[0]}, expected 0..{num_classes - 1}")
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU per class: TP / (true + predicted - TP).

    Args:
        confusion: (C, C) counts, rows true class. Further columns are predictions of no class, which miss.

    Returns:
        (C,) float64 in [0, 1]; NaN for a class neither true nor predicted anywhere, 0 for one that
        is only predicted.
    """
    hit = np.diagonal(confusion).astype(np.float64)
    union = confusion.sum(axis=1) + _predicted(confusion) - hit
    return np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)


def class_precision(confusion: np.ndarray) -> np.ndarray:
    """TP / predicted per class, (C,) float64; NaN for a class that is never predicted. As :func:`class_iou`."""
    hit, predicted = np.diagonal(confusion).astype(np.float64), _predicted(confusion)
    return np.divide(hit, predicted, out=np.full(hit.shape, np.nan), where=predicted > 0)


def _predicted(confusion: np.ndarray) -> np.ndarray:
    """(C,) pixels predicted to be of each class."""
    return confusion.sum(axis=0)[: len(confusion)]


@dataclass(frozen=True)
class SemanticScores:
    """Scores in [0, 1]; a mean over nothing is NaN.

    Attributes:
        iou: (C,) as :func:`class_iou`.
        accuracy: (C,) TP / true pixels; NaN for a class absent from the ground truth.
        mean_iou: over the classes that are true or predicted somewhere.
        frequency_weighted_iou: IoU weighted by the true pixels of its class.
        mean_accuracy: over the classes of the ground truth.
        pixel_accuracy: share of the counted pixels that are right.
    """

    iou: np.ndarray
    accuracy: np.ndarray
    mean_iou: float
    frequency_weighted_iou: float
    mean_accuracy: float
    pixel_accuracy: float


def _mean(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def semantic_scores(confusion: np.ndarray) -> SemanticScores:
    """All scores of one confusion matrix.

    Args:
        confusion: see :func:`class_iou`.

    Returns:
        The scores.
    """
    iou = class_iou(confusion)
    hit = np.diagonal(confusion).astype(np.float64)
    true = confusion.sum(axis=1)
    total = int(true.sum())
    accuracy = np.divide(hit, true, out=np.full(hit.shape, np.nan), where=true > 0)
    present = true > 0
    return SemanticScores(
        iou=iou,
        accuracy=accuracy,
        mean_iou=_mean(iou),
        frequency_weighted_iou=float((iou[present] * true[present]).sum() / total)
        if total
        else float("nan"),
        mean_accuracy=_mean(accuracy),
        pixel_accuracy=float(hit.sum() / total) if total else float("nan"),
    )
