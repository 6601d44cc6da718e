from __future__ import annotations

import numpy as np

from wsis.methods.bana.attention import attention_map
from wsis.methods.bana.refiner import FEATURES
from wsis.structures import Seed

SIZE = (6, 8)


def seed(box: tuple[int, int, int, int]) -> Seed:
    """The left half of the image has feature e0, the right half e1; at the image's own resolution."""
    features = np.zeros((2, *SIZE), dtype=np.float32)
    features[0, :, :4] = features[1, :, 4:] = 1
    boxes, classes = np.array([box], dtype=np.float32), np.zeros(1, dtype=np.int64)
    return Seed(1, "a.png", *SIZE, boxes, classes, (7,), {FEATURES: features})


def test_attention_is_the_cosine_to_the_mean_of_the_background() -> None:
    attention = attention_map(seed((4, 0, 8, 6)))
    np.testing.assert_allclose(attention[:, :4], 1, rtol=1e-6)
    assert not attention[:, 4:].any()


def test_the_old_release_counts_the_near_edges_to_the_background() -> None:
    attention = attention_map(seed((4, 0, 8, 6)), legacy_box_shift=True)
    mean = np.array([6 * 4, 6 + 3])  # the column x = 4 and the rest of the row y = 0
    left, right = mean / np.hypot(*mean)
    np.testing.assert_allclose(attention[:, :4], left, rtol=1e-6)
    np.testing.assert_allclose(attention[:, 4:], right, rtol=1e-6)


def test_boxes_over_the_whole_image_leave_no_attention() -> None:
    assert not attention_map(seed((0, 0, 8, 6))).any()
