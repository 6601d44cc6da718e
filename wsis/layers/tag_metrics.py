"""How well scores of classes rank the images, and the classes of an image."""

from __future__ import annotations

import numpy as np


def average_precision(scores: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Area under the curve of precision over recall of each class, as steps: the sum over thresholds t of
    (recall_t - recall before) precision_t. Nothing is interpolated, and equal scores share a threshold.

    Args:
        scores: (N, C), of images.
        tags: (N, C) bool.

    Returns:
        (C,) in [0, 1]; NaN for a class that no image has.
    """
    number = len(scores)
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked, hits = (np.take_along_axis(each, order, axis=0) for each in (scores, tags))
    precision = hits.cumsum(axis=0) / np.arange(1, number + 1)[:, None]
    # the last place with the same score
    last = np.ones(ranked.shape, dtype=bool)
    last[:-1] = ranked[:-1] != ranked[1:]
    places = np.where(last, np.arange(number)[:, None], number)
    places = np.minimum.accumulate(places[::-1], axis=0)[::-1]
    total = (np.take_along_axis(precision, places, axis=0) * hits).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return total / hits.sum(axis=0)


def top_accuracy(scores: np.ndarray, tags: np.ndarray, number: int) -> float:
    """Share of the images that have one of their tags among the ``number`` classes with the highest scores; of equal
    scores the first counts as higher. Images without tags are left out; NaN if none is left.

    Args:
        scores: (N, C).
        tags: (N, C) bool.
        number: at least 1.
    """
    known = tags.any(axis=1)
    if not known.any():
        return float("nan")
    best = np.argsort(-scores[known], axis=1, kind="stable")[:, :number]
    return float(np.take_along_axis(tags[known], best, axis=1).any(axis=1).mean())
