"""The two protocols for labels with 255, and no label ever in another's row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wsis.errors import DataError
from wsis.evaluation.semantic_quality import (
    count_pixels,
    format_semantic,
    metrics_of,
    semantic_quality,
)

NAMES = ["background", "cat", "dog"]


def quality(prediction, truth, names=NAMES):
    arrays = (np.array(values, dtype=np.uint8) for values in (prediction, truth))
    return semantic_quality(count_pixels(*arrays, len(names), "a.png"), names)


def test_counts_by_hand() -> None:
    counts = count_pixels(
        np.array([0, 1, 255, 255, 2, 255]), np.array([0, 2, 0, 2, 255, 255]), 3, "a.png"
    )
    np.testing.assert_array_equal(counts, [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]])
    ignored, truth = np.full(3, 255, np.uint8), np.arange(3, dtype=np.uint8)
    wrapped = count_pixels(ignored, truth, 3, "a.png")
    np.testing.assert_array_equal(wrapped, [[0, 0, 0, 1]] * 3)


def test_a_prediction_of_255_is_a_miss_or_left_out() -> None:
    found = quality([0, 0, 255, 1, 1, 255], [0, 0, 0, 1, 0, 1])
    assert found["coverage"] == pytest.approx(100 * 4 / 6)
    strict, covered = found["strict"], found["covered"]
    assert strict["per_class"]["background"]["IoU"] == pytest.approx(100 * 2 / 4)
    assert strict["per_class"]["cat"]["IoU"] == pytest.approx(100 * 1 / 3)
    assert covered["per_class"]["background"]["IoU"] == pytest.approx(100 * 2 / 3)
    assert covered["per_class"]["cat"]["IoU"] == pytest.approx(100 * 1 / 2)
    assert strict["mIoU"] == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    assert strict["pACC"] == pytest.approx(50) and covered["pACC"] == pytest.approx(75)
    assert strict["mPrecision"] == covered["mPrecision"] == pytest.approx(75)
    assert strict["per_class"]["dog"] == {"IoU": None, "ACC": None, "precision": None}


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    found = quality([0, 0, 2], [0, 0, 0])
    assert found["strict"]["mIoU"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert found["strict"]["mACC"] == pytest.approx(100 * 2 / 3)


def test_other_values_and_sizes_are_errors_that_name_the_file() -> None:
    with pytest.raises(DataError, match=r"a\.png: prediction holds label 4, expected 0\.\.2"):
        quality([4], [0])
    with pytest.raises(DataError, match=r"a\.png: prediction holds label 3"):
        count_pixels(np.array([3]), np.array([0]), 3, "a.png")
    with pytest.raises(DataError, match=r"a\.png: target holds label 7"):
        quality([0], [7])
    with pytest.raises(DataError, match=r"a\.png: prediction is"):
        quality([0, 1], [0])


def test_nothing_to_compare_is_undefined() -> None:
    found = quality([0, 1], [255, 255])
    assert found["coverage"] is None and found["strict"]["mIoU"] is None
    assert math.isnan(metrics_of(found)["mIoU"])


def test_metrics_are_strict_and_name_the_other_protocol_only_where_it_differs() -> None:
    full = metrics_of(quality([0, 1, 2], [0, 1, 1]))
    assert set(full) == {"mIoU", "fwIoU", "mACC", "pACC"} | {
        f"{key}-{name}" for key in ("IoU", "ACC") for name in NAMES
    }
    assert full["IoU-cat"] == 50
    partial = metrics_of(quality([0, 255], [0, 1]))
    assert partial["coverage"] == 50 and partial["covered-mIoU"] == 100 and partial["mIoU"] == 50


def test_the_table_shows_both_protocols_of_a_partial_map() -> None:
    text = format_semantic({"y_crf": quality([0, 1], [0, 1]), "both": quality([0, 255], [0, 1])})
    rows = {line.split("  ")[0]: line.split()[-6:] for line in text.splitlines()[2:5]}
    assert list(rows) == ["y_crf", "both strict", "both covered"]
    assert rows["both strict"][:2] == ["50.00", "50.00"]
    assert rows["both covered"][:2] == ["50.00", "100.00"]
    assert text.splitlines()[-1].split() == ["dog", "-", "-", "-"]
