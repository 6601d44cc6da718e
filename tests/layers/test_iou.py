import numpy as np
import pytest

from wsis.layers.iou import box_iou, class_means


def test_box_conventions():
    a, b = [0, 0, 9, 9], [5, 0, 14, 9]
    assert box_iou(a, b) == pytest.approx(36 / 126)
    assert box_iou(a, b, inclusive=True) == pytest.approx(50 / 150)
    # a 38 x 38 mask pasted into a box read as one pixel larger
    pasted = box_iou([0, 0, 37, 37], [0, 0, 38, 38], inclusive=True)
    assert pasted == pytest.approx(0.9494, abs=1e-4)


def test_boxes_without_area():
    boxes = np.array([[2, 2, 2, 5], [4, 4, 1, 1], [0, 0, 3, 3]], dtype=float)
    matrix = box_iou(boxes[:, None], boxes[None])
    np.testing.assert_array_equal(matrix, np.diag([0.0, 0.0, 1.0]))
    assert box_iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)


def test_class_means():
    means = class_means([0.2, 0.4, 1.0], [2, 2, 0], 4)
    np.testing.assert_allclose(means, [1.0, np.nan, 0.3, np.nan])
    assert np.isnan(class_means([], [], 2)).all()
