"""How good semantic label maps are: scores in percent, per class too, of predictions and of pseudo labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from wsis.errors import DataError
from wsis.layers.contour import contour_counts, contour_f
from wsis.layers.seg_metrics import class_precision, confusion_matrix, semantic_scores
from wsis.structures.pseudo_labels import IGNORE

PROTOCOLS = ("strict", "covered")
"""What a prediction of 255 is where the truth is known: a miss, or not counted."""


@dataclass
class Counts:
    """What the scores are made of; add those of several images.

    Attributes:
        pixels: (C, C + 1) int64: rows the true class, columns the predicted one, the last column 255.
        boundaries: (C - 1, 4) int64, see :func:`wsis.layers.contour.contour_counts`.
    """

    pixels: np.ndarray
    boundaries: np.ndarray

    @classmethod
    def of_nothing(cls, num_classes: int) -> Counts:
        """Those of no image; C with background."""
        shapes = (num_classes, num_classes + 1), (num_classes - 1, 4)
        return cls(*(np.zeros(shape, dtype=np.int64) for shape in shapes))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.pixels + other.pixels, self.boundaries + other.boundaries)


def count_labels(prediction: np.ndarray, truth: np.ndarray, num_classes: int, name: str) -> Counts:
    """The counts of one image.

    Args:
        prediction: (H, W) integers, 0 .. C - 1 and 255.
        truth: (H, W), likewise; 255 is not counted, and is background for the boundaries.
        num_classes: C, background included.
        name: of the image or file, for messages.

    Raises:
        DataError: sizes differ, or a value that is no class.
    """
    columns = np.where(prediction == IGNORE, num_classes, prediction.astype(np.int64))
    stray = prediction[(prediction >= num_classes) & (prediction != IGNORE)]
    try:
        if stray.size:
            raise ValueError(f"prediction holds label {stray[0]}, expected 0..{num_classes - 1}")
        pixels = confusion_matrix(columns, truth, num_classes + 1)[:num_classes]
        return Counts(pixels, contour_counts(truth, prediction, num_classes - 1))
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error


def semantic_quality(counts: Counts, class_names: Sequence[str]) -> dict[str, Any]:
    """All scores.

    Args:
        counts: of all images.
        class_names: C of them, background first.

    Returns:
        ``coverage`` (share of the pixels that have a prediction), ``contour`` and, by protocol, ``mIoU``, ``fwIoU``,
        ``mACC``, ``pACC``, ``mPrecision`` and ``per_class`` with ``IoU``, ``ACC``, ``precision`` by class; percent,
        None where a score is not defined. A class counts in mIoU if it is true or predicted somewhere.
        ``contour`` has ``F``, the mean over the classes that have a boundary somewhere, ``F_published``, that over all
        classes, 100 for those without any, and ``per_class``; background has none.
    """
    total = int(counts.pixels.sum())
    covered = counts.pixels[:, :-1]
    quality: dict[str, Any] = {
        "coverage": _percent(covered.sum() / total if total else np.nan),
        "contour": _contour_quality(counts.boundaries, class_names[1:]),
    }
    for protocol, part in zip(PROTOCOLS, (counts.pixels, covered), strict=True):
        scores = semantic_scores(part)
        precision = class_precision(part)
        per_class = zip(class_names, scores.iou, scores.accuracy, precision, strict=True)
        quality[protocol] = {
            "mIoU": _percent(scores.mean_iou),
            "fwIoU": _percent(scores.frequency_weighted_iou),
            "mACC": _percent(scores.mean_accuracy),
            "pACC": _percent(scores.pixel_accuracy),
            "mPrecision": _percent(_mean(precision)),
            "per_class": {
                name: {"IoU": _percent(iou), "ACC": _percent(acc), "precision": _percent(right)}
                for name, iou, acc, right in per_class
            },
        }
    return quality


def _contour_quality(boundaries: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    scores = contour_f(boundaries)
    return {
        "F": _percent(_mean(scores)),
        "F_published": _percent(_mean(contour_f(boundaries, absent=1.0))),
        "per_class": dict(zip(class_names, map(_percent, scores), strict=True)),
    }


def _mean(values: np.ndarray) -> float:
    """Of those that are defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def metrics_of(quality: Mapping[str, Any]) -> dict[str, float]:
    """The form that Detectron2 prints and stores: one level, floats only, NaN where a score is not defined.

    ``mIoU``, ``fwIoU``, ``mACC``, ``pACC``, ``IoU-<class>`` and ``ACC-<class>`` are strict; ``contourF`` and
    ``contourF-<class>``. Where something is 255, ``coverage`` and ``covered-mIoU`` stand beside them.
    """
    strict = quality["strict"]
    flat = {key: strict[key] for key in ("mIoU", "fwIoU", "mACC", "pACC")}
    for key in ("IoU", "ACC"):
        flat.update({f"{key}-{name}": v[key] for name, v in strict["per_class"].items()})
    contour = quality["contour"]
    flat["contourF"] = contour["F"]
    flat.update({f"contourF-{name}": value for name, value in contour["per_class"].items()})
    if quality["coverage"] is not None and quality["coverage"] < 100:
        flat["coverage"] = quality["coverage"]
        flat["covered-mIoU"] = quality["covered"]["mIoU"]
    return {key: float("nan") if value is None else value for key, value in flat.items()}


_MEANS = ("mIoU", "fwIoU", "mACC", "pACC", "mPrecision")


def format_semantic(qualities: Mapping[str, Mapping[str, Any]]) -> str:
    """Two tables: the means, one row for each map and protocol, and IoU and contour F by class.

    Args:
        qualities: name of a kind of map to its :func:`semantic_quality`.
    """
    means, columns = [], []
    for name, quality in qualities.items():
        partial = quality["coverage"] is not None and quality["coverage"] < 100
        contour = quality["contour"]
        for protocol in PROTOCOLS if partial else PROTOCOLS[:1]:
            title = f"{name} {protocol}" if partial else name
            scores = quality[protocol]
            of_class = {each: values["IoU"] for each, values in scores["per_class"].items()}
            columns.append((title, of_class))
            row = [title, quality["coverage"], *(scores[key] for key in _MEANS)]
            means.append([*row, contour["F"] if protocol == PROTOCOLS[0] else None])
        columns.append((f"{name} contour F", contour["per_class"]))
    headers = ["percent", "coverage", "mIoU", "fwIoU", "mean acc.", "pixel acc.", "mean precision"]
    classes = [[name, *(of_class.get(name) for _, of_class in columns)] for name in columns[0][1]]
    tables = (means, [*headers, "contour F"]), (classes, ["IoU", *(t for t, _ in columns)])
    return "\n\n".join(
        tabulate(rows, headers=titles, floatfmt=".2f", tablefmt="simple", missingval="-")
        for rows, titles in tables
    )
