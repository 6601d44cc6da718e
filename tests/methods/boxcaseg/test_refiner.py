import pickle

import numpy as np
import pytest
import torch

from tests.masks import rectangle
from wsis.methods.boxcaseg.refiner import (
    BoxCasegRefiner,
    byte_maps,
    mask_confidence,
    tight_box,
    truncated_box,
)
from wsis.structures import Seed
from wsis.structures.rle import decode_mask

SIZE = (70, 90)
LEFT_HALF = rectangle((80, 80), 0, 0, 40, 80).astype(float)
FULL = rectangle((80, 80), 0, 1, 80, 79).astype(float)
"""But for one row at each end, so that it has contrast."""
BOX = [10, 20, 50, 60]


def refine(boxes, maps, merge=True):
    """The refined masks, and they as arrays."""
    n = len(boxes)
    corners, classes = np.array(boxes, np.float32).reshape(-1, 4), np.zeros(n, np.int64)
    made = {"bytes": byte_maps(np.array(maps).reshape(n, 80, 80))}
    seed = Seed(1, "image.png", *SIZE, corners, classes, tuple(range(10, 10 + n)), made)
    refiner = pickle.loads(pickle.dumps(BoxCasegRefiner("exact", merge)))
    masks = refiner(seed, np.zeros((*SIZE, 3), dtype=np.uint8))
    return masks, [decode_mask(code) for code in masks.masks]


def test_left_half_of_a_box_and_a_constant_map():
    masks, (found, _) = refine([BOX] * 2, [LEFT_HALF, np.full((80, 80), 0.9)])
    np.testing.assert_array_equal(found, rectangle(SIZE, 10, 20, 30, 60))
    assert masks.status == ["ok", "empty"] and masks.scores == [0.5, 0.0]


def test_smaller_box_wins_order_does_not_matter_and_without_merging_masks_may_overlap():
    boxes, maps = [[0, 0, 90, 70], BOX], [FULL, LEFT_HALF]
    large, small = refine(boxes, maps)[1]
    assert not (large & small).any()
    assert small[20:60, 10:30].all() and large[40, 40]
    np.testing.assert_array_equal(refine(boxes[::-1], maps[::-1])[1], [small, large])
    large, small = refine(boxes, maps, merge=False)[1]
    assert (large & small).sum() == small.sum() == 20 * 40


def test_box_that_loses_all_its_pixels_is_empty():
    masks, _ = refine([BOX] * 3, [LEFT_HALF] * 3)
    assert masks.status == ["ok", "empty", "empty"] and masks.scores == [0.5, 0.0, 0.0]
    # equal boxes with fractions count as equal
    boxes = [[60.3, 30.1, 80.2, 50.1], [0.3, 30.1, 20.2, 50.1], [60.3, 30.1, 80.2, 50.1]]
    assert refine(boxes, [LEFT_HALF] * 3)[0].status == ["ok", "ok", "empty"]
    assert len(refine([], [])[0]) == 0


def test_one_pixel_box_and_boxes_at_the_border():
    boxes = [[5, 5, 6, 6], [89, 69, 90, 70], [80, 0, 90, 70]]
    masks, found = refine(boxes, [FULL, FULL, LEFT_HALF])
    assert masks.status == ["ok"] * 3 and masks.scores[:2] == [1.0, 1.0]
    assert [mask.sum() for mask in found][:2] == [1, 1]


@pytest.mark.parametrize(("side", "kept"), [(38, False), (39, True)])
def test_perfect_squares_at_the_published_threshold(side, kept):
    box = np.array([3.0, 4.0, 3.0 + side, 4.0 + side])
    legacy, exact = (mask_confidence(box, box, 90, 90, mode) for mode in ("legacy", "exact"))
    assert legacy == pytest.approx(side**2 / (side + 1) ** 2)
    assert (legacy > 0.95) == kept and exact == 1.0


def test_confidence_of_an_empty_mask_and_of_a_fractional_box():
    assert tight_box((np.zeros((3, 3), dtype=bool), 0, 0)) is None
    assert all(mask_confidence(None, [0, 0, 6, 6], 90, 90, m) == 0 for m in ("legacy", "exact"))
    filled = np.array([3.0, 4.0, 9.0, 10.0])
    assert mask_confidence(filled, [3.6, 4.2, 8.1, 9.5], 90, 90, "exact") == 1.0


@pytest.mark.parametrize(
    ("box", "truncated"),
    [
        ([10.9, 2.1, 10.9 + 12.4, 2.1 + 40.8], [10, 2, 22, 42]),
        ([500.3, 2.1, 500.3 + 20.0, 2.1 + 40.0], [500, 2, 520, 42]),  # exact sides
    ],
)
def test_legacy_box_is_truncated_side_by_side(box, truncated):
    np.testing.assert_array_equal(truncated_box(np.array(box, dtype=np.float32)), truncated)


def test_bytes_are_stretched_and_floored():
    maps = torch.tensor([[[0.2, 0.3, 0.4, 0.6]], [[0.7, 0.7, 0.7, 0.7]]])
    np.testing.assert_array_equal(byte_maps(maps), [[[0, 63, 127, 255]], [[0, 0, 0, 0]]])
    assert byte_maps(maps.bfloat16()).dtype == np.uint8
    assert byte_maps(torch.zeros(0, 8, 8)).shape == (0, 8, 8)
