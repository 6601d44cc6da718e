"""How good semantic label maps are: scores in percent, per class too, of predictions and of pseudo labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from wsis.errors import DataError
from wsis.layers.seg_metrics import class_precision, confusion_matrix, semantic_scores
from wsis.structures.pseudo_labels import IGNORE

PROTOCOLS = ("strict", "covered")
"""What a prediction of 255 is where the truth is known: a miss, or not counted."""


def count_pixels(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int, name: str
) -> np.ndarray:
    """Pixel counts of one image; add those of several.

    Args:
        prediction: (H, W) integers, 0 .. C - 1 and 255.
        truth: (H, W), likewise; 255 is not counted.
        num_classes: C, background included.
        name: of the image or file, for messages.

    Returns:
        (C, C + 1) int64: rows the true class, columns the predicted one, the last column 255.

    Raises:
        DataError: sizes differ, or a value that is no class.
    """
    columns = np.where(prediction == IGNORE, num_classes, prediction.astype(np.int64))
    stray = prediction[(prediction >= num_classes) & (prediction != IGNORE)]
    try:
        if stray.size:
            raise ValueError(f"prediction holds label {stray[0]}, expected 0..{num_classes - 1}")
        return confusion_matrix(columns, truth, num_classes + 1)[:num_classes]
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error


def semantic_quality(counts: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """All scores.

    Args:
        counts: (C, C + 1), see :func:`count_pixels`.
        class_names: C of them.

    Returns:
        ``coverage`` (share of the pixels that have a prediction) and, by protocol, ``mIoU``, ``fwIoU``, ``mACC``,
        ``pACC``, ``mPrecision`` and ``per_class`` with ``IoU``, ``ACC``, ``precision`` by class; percent, None where a
        score is not defined. A class counts in mIoU if it is true or predicted somewhere.
    """
    total = int(counts.sum())
    covered = counts[:, :-1]
    quality: dict[str, Any] = {"coverage": _percent(covered.sum() / total if total else np.nan)}
    for protocol, part in zip(PROTOCOLS, (counts, covered), strict=True):
        scores = semantic_scores(part)
        precision = class_precision(part)
        per_class = zip(class_names, scores.iou, scores.accuracy, precision, strict=True)
        quality[protocol] = {
            "mIoU": _percent(scores.mean_iou),
            "fwIoU": _percent(scores.frequency_weighted_iou),
            "mACC": _percent(scores.mean_accuracy),
            "pACC": _percent(scores.pixel_accuracy),
            "mPrecision": _percent(
                np.nanmean(precision) if not np.isnan(precision).all() else np.nan
            ),
            "per_class": {
                name: {"IoU": _percent(iou), "ACC": _percent(acc), "precision": _percent(right)}
                for name, iou, acc, right in per_class
            },
        }
    return quality


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def metrics_of(quality: Mapping[str, Any]) -> dict[str, float]:
    """The form that Detectron2 prints and stores: one level, floats only, NaN where a score is not defined.

    ``mIoU``, ``fwIoU``, ``mACC``, ``pACC``, ``IoU-<class>`` and ``ACC-<class>`` are strict. Where something is 255,
    ``coverage`` and ``covered-mIoU`` stand beside them.
    """
    strict = quality["strict"]
    flat = {key: strict[key] for key in ("mIoU", "fwIoU", "mACC", "pACC")}
    for key in ("IoU", "ACC"):
        flat.update({f"{key}-{name}": v[key] for name, v in strict["per_class"].items()})
    if quality["coverage"] is not None and quality["coverage"] < 100:
        flat["coverage"] = quality["coverage"]
        flat["covered-mIoU"] = quality["covered"]["mIoU"]
    return {key: float("nan") if value is None else value for key, value in flat.items()}


_MEANS = ("mIoU", "fwIoU", "mACC", "pACC", "mPrecision")


def format_semantic(qualities: Mapping[str, Mapping[str, Any]]) -> str:
    """Two tables: the means, one row for each map and protocol, and the IoU by class.

    Args:
        qualities: name of a kind of map to its :func:`semantic_quality`.
    """
    means, columns = [], []
    for name, quality in qualities.items():
        partial = quality["coverage"] is not None and quality["coverage"] < 100
        for protocol in PROTOCOLS if partial else PROTOCOLS[:1]:
            title = f"{name} {protocol}" if partial else name
            scores = quality[protocol]
            columns.append((title, scores["per_class"]))
            means.append([title, quality["coverage"], *(scores[key] for key in _MEANS)])
    headers = ["percent", "coverage", "mIoU", "fwIoU", "mean acc.", "pixel acc.", "mean precision"]
    classes = [
        [name, *(per_class[name]["IoU"] for _, per_class in columns)] for name in columns[0][1]
    ]
    return "\n\n".join(
        tabulate(rows, headers=titles, floatfmt=".2f", tablefmt="simple", missingval="-")
        for rows, titles in ((means, headers), (classes, ["IoU", *(t for t, _ in columns)]))
    )
