from __future__ import annotations

import numpy as np
import pytest

from wsis.layers.iou import box_iou, class_means, mask_iou, mask_iou_matrix


def test_mask_iou_by_hand() -> None:
    a = np.zeros((3, 4, 5), dtype=np.uint8)
    b = np.zeros((3, 4, 5), dtype=bool)
    a[0, :, :2] = 7  # 8 pixels, any non-zero value is inside
    b[0, :, 1:3] = True  # 8 pixels, 4 shared
    a[1] = 1  # against nothing; the third pair is empty on both sides
    np.testing.assert_allclose(mask_iou(a, b), [4 / 12, 0, 0])
    assert mask_iou(a[0], b[0]).shape == ()


def test_matrix_agrees_with_pairs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((4, 6, 7)) > 0.5, rng.random((3, 6, 7)) > 0.6
    a[2] = False
    expected = mask_iou(a[:, None], b[None])
    np.testing.assert_allclose(mask_iou_matrix(a, b), expected, rtol=1e-12)
    assert mask_iou_matrix(a[:0], b).shape == (0, 3)


def test_masks_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="pixels"):
        mask_iou_matrix(np.ones((1, 3, 4)), np.ones((1, 4, 3)))
    with pytest.raises(ValueError, match="pixels"):
        mask_iou(np.ones((1, 1, 4)), np.ones((1, 3, 4)))


def test_box_conventions() -> None:
    a, b = [0, 0, 9, 9], [5, 0, 14, 9]
    assert box_iou(a, b) == pytest.approx(36 / 126)
    assert box_iou(a, b, inclusive=True) == pytest.approx(50 / 150)
    # a 38 x 38 mask pasted into a box read as one pixel larger
    assert box_iou([0, 0, 37, 37], [0, 0, 38, 38], inclusive=True) == pytest.approx(
        0.9494, abs=1e-4
    )


def test_boxes_without_area() -> None:
    boxes = np.array([[2, 2, 2, 5], [4, 4, 1, 1], [0, 0, 3, 3]], dtype=float)
    matrix = box_iou(boxes[:, None], boxes[None])
    np.testing.assert_array_equal(matrix, np.diag([0.0, 0.0, 1.0]))
    assert box_iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)


def test_class_means() -> None:
    means = class_means([0.2, 0.4, 1.0], [2, 2, 0], 4)
    np.testing.assert_allclose(means, [1.0, np.nan, 0.3, np.nan])
    assert np.isnan(class_means([], [], 2)).all()
