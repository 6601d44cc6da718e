import warnings

import numpy as np
import pytest

from wsis.layers.seg_metrics import class_iou, confusion_matrix, semantic_scores


def test_confusion_rows_are_the_truth():
    target = np.array([[0, 0, 1], [2, 255, 1]], dtype=np.uint8)
    prediction = np.array([[0, 1, 1], [2, 255, 0]], dtype=np.uint8)  # 255 only where nothing counts
    confusion = confusion_matrix(prediction, target, 3)
    np.testing.assert_array_equal(confusion, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


def test_scores_by_hand():
    # class 2 is predicted but never true, class 3 is neither
    confusion = np.array([[6, 2, 0, 0], [1, 3, 4, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    scores = semantic_scores(confusion)
    np.testing.assert_allclose(scores.iou, [6 / 9, 3 / 10, 0, np.nan])
    np.testing.assert_allclose(scores.accuracy, [6 / 8, 3 / 8, np.nan, np.nan])
    found = scores.mean_iou, scores.frequency_weighted_iou, scores.mean_accuracy
    total = 6 / 9 + 3 / 10
    assert (*found, scores.pixel_accuracy) == pytest.approx((total / 3, total / 2, 9 / 16, 9 / 16))


def test_everything_void_gives_nan_in_silence():
    labels = np.full((3, 3), 255, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = semantic_scores(confusion_matrix(labels, labels, 2))
    assert np.isnan([scores.mean_iou, scores.pixel_accuracy, scores.frequency_weighted_iou]).all()


def test_void_in_a_prediction_never_wraps_and_shapes_must_agree():
    target = np.array([0, 1, 1], dtype=np.uint8)
    prediction = np.array([0, 1, 255], dtype=np.uint8)
    with pytest.raises(ValueError, match="prediction holds label 255, expected 0..1"):
        confusion_matrix(prediction, target, 2)
    with pytest.raises(ValueError, match="target holds label -1"):
        confusion_matrix(np.zeros(1, int), np.array([-1]), 2)
    # counted as a miss: an extra class that is never true
    missed = confusion_matrix(np.where(prediction == 255, 2, prediction), target, 3)
    np.testing.assert_allclose(class_iou(missed)[:2], [1, 1 / 2])
    with pytest.raises(ValueError, match="prediction is"):
        confusion_matrix(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)
