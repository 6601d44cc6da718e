import numpy as np
import pytest

from wsis.layers.tag_metrics import average_precision, top_accuracy


def plain(scores, hits):
    """One threshold after the other."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        recall = hits[chosen].sum() / hits.sum()
        total += (recall - before) * hits[chosen].mean()
        before = recall
    return total


@pytest.mark.parametrize("levels", [1, 4, 10**6])
def test_average_precision_of_equal_and_of_different_scores(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (60, 5)).astype(np.float32)
    tags = rng.random((60, 5)) < [0.02, 0.2, 0.5, 0.9, 1.0]
    tags[3, 0] = True
    expected = [plain(*columns) for columns in zip(scores.T, tags.T, strict=True)]
    assert average_precision(scores, tags) == pytest.approx(expected)


def test_a_class_that_no_image_has_is_nan():
    found = average_precision(np.eye(2), np.array([[False, True], [False, False]]))
    assert np.isnan(found[0]) and found[1] == 0.5


def test_top_accuracy():
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0], [5.0, 0.0, 0.0]])
    tags = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=bool)
    assert [top_accuracy(scores, tags, number) for number in (1, 2, 3)] == pytest.approx(
        [2 / 3, 2 / 3, 1]
    )
    assert np.isnan(top_accuracy(scores[3:], tags[3:], 1))
