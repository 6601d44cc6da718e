"""The two protocols for labels with 255, and no label ever in another's row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wsis.errors import DataError
from wsis.evaluation.semantic_quality import (
    Counts,
    count_labels,
    format_semantic,
    metrics_of,
    semantic_quality,
)

NAMES = ["background", "cat", "dog"]


def quality(prediction, truth, names=NAMES):
    arrays = (np.atleast_2d(values).astype(np.uint8) for values in (prediction, truth))
    return semantic_quality(count_labels(*arrays, len(names), "a.png"), names)


def pixels(prediction, truth, number):
    return count_labels(np.atleast_2d(prediction), np.atleast_2d(truth), number, "a.png").pixels


def test_counts_by_hand() -> None:
    counts = pixels([0, 1, 255, 255, 2, 255], [0, 2, 0, 2, 255, 255], 3)
    np.testing.assert_array_equal(counts, [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]])
    ignored, truth = np.full(3, 255, np.uint8), np.arange(3, dtype=np.uint8)
    wrapped = pixels(ignored, truth, 3)
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
        pixels([3], [0], 3)
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
    assert set(full) == {"mIoU", "fwIoU", "mACC", "pACC", "contourF"} | {
        f"{key}-{name}" for key in ("IoU", "ACC", "contourF") for name in NAMES
    } - {"contourF-background"}
    assert full["IoU-cat"] == 50
    partial = metrics_of(quality([0, 255], [0, 1]))
    assert partial["coverage"] == 50 and partial["covered-mIoU"] == 100 and partial["mIoU"] == 50


def test_the_table_shows_both_protocols_of_a_partial_map() -> None:
    text = format_semantic({"y_crf": quality([0, 1], [0, 1]), "both": quality([0, 255], [0, 1])})
    rows = {line.split("  ")[0]: line.split()[-7:] for line in text.splitlines()[2:5]}
    assert list(rows) == ["y_crf", "both strict", "both covered"]
    assert rows["both strict"][:2] == ["50.00", "50.00"]
    assert rows["both covered"][:2] == ["50.00", "100.00"]
    assert rows["both covered"][-1] == "-" != rows["both strict"][-1]
    assert text.splitlines()[-1].split() == ["dog", *"-----"]


def test_boundaries_are_pooled_and_absent_classes_are_not_perfect() -> None:
    big, small = np.zeros((2, 100, 100), dtype=np.uint8)
    big[20:70, 20:70], small[40:44, 40:44] = 1, 1
    pairs = (big, big), (np.roll(small, 50, axis=1), np.where(small, 1, 255))
    counts = [count_labels(*pair, 3, "a.png") for pair in pairs]
    found = semantic_quality(sum(counts, Counts.of_nothing(3)), NAMES)["contour"]
    share = 100 * 196 / (196 + 16)  # pixels of the boundaries of squares of 50 and 4
    assert found["F"] == pytest.approx(share, abs=1)
    assert found["per_class"] == {"cat": found["F"], "dog": None}
    assert found["F_published"] == pytest.approx((found["F"] + 100) / 2)
    nothing = quality(0, 0)
    assert (nothing["contour"]["F"], nothing["contour"]["F_published"]) == (None, 100)
    assert math.isnan(metrics_of(nothing)["contourF"])
