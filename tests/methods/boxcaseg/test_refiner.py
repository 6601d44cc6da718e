import pickle

import numpy as np
import pytest

from wsis.methods.boxcaseg.inference import byte_maps
from wsis.methods.boxcaseg.refiner import BoxCasegRefiner, mask_confidence, tight_box, truncated_box
from wsis.structures import Seed
from wsis.structures.rle import decode_mask

SIZE = (70, 90)
IMAGE = np.zeros((*SIZE, 3), dtype=np.uint8)
LEFT_HALF = np.repeat([[1.0, 0.0]], 40, axis=1).repeat(80, axis=0)
FULL = np.pad(
    np.ones((78, 80)), ((1, 1), (0, 0))
)  # but for one row at each end, so that it has contrast


def refine(boxes, maps, confidence="exact", merge=True):
    n = len(boxes)
    seed = Seed(
        image_id=1,
        file_name="image.png",
        height=SIZE[0],
        width=SIZE[1],
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        classes=np.zeros(n, dtype=np.int64),
        annotation_ids=tuple(range(10, 10 + n)),
        maps={"bytes": byte_maps(np.array(maps).reshape(n, 80, 80))},
    )
    refiner = pickle.loads(pickle.dumps(BoxCasegRefiner(confidence, merge)))
    return refiner(seed, IMAGE)


def dense(masks):
    return [decode_mask(code) for code in masks.masks]


def test_left_half_of_a_box():
    masks = refine([[10, 20, 50, 60]], [LEFT_HALF])
    expected = np.zeros(SIZE, dtype=bool)
    expected[20:60, 10:30] = True
    np.testing.assert_array_equal(dense(masks)[0], expected)
    assert masks.status == ["ok"] and masks.scores == [0.5]


def test_constant_map_is_empty():
    masks = refine([[10, 20, 50, 60]], [np.full((80, 80), 0.9)])
    assert masks.status == ["empty"] and masks.scores == [0.0]


def test_smaller_box_wins_and_order_does_not_matter():
    boxes, maps = [[0, 0, 90, 70], [10, 20, 50, 60]], [FULL, LEFT_HALF]
    masks = refine(boxes, maps)
    large, small = dense(masks)
    assert not (large & small).any()
    assert small[20:60, 10:30].all() and large[40, 40]
    swapped = dense(refine(boxes[::-1], maps[::-1]))
    np.testing.assert_array_equal(swapped[0], small)
    np.testing.assert_array_equal(swapped[1], large)


def test_without_merging_masks_may_overlap():
    large, small = dense(refine([[0, 0, 90, 70], [10, 20, 50, 60]], [FULL, LEFT_HALF], merge=False))
    assert (large & small).sum() == small.sum() == 20 * 40


def test_box_that_loses_all_its_pixels_is_empty():
    masks = refine([[10, 20, 50, 60]] * 3, [LEFT_HALF] * 3)
    assert masks.status == ["ok", "empty", "empty"]
    assert masks.scores == [0.5, 0.0, 0.0]


def test_equal_boxes_with_fractions_count_as_equal():
    boxes = [[60.3, 30.1, 80.2, 50.1], [0.3, 30.1, 20.2, 50.1], [60.3, 30.1, 80.2, 50.1]]
    assert refine(boxes, [LEFT_HALF] * 3).status == ["ok", "ok", "empty"]


def test_no_boxes():
    assert len(refine([], [])) == 0


def test_one_pixel_box_and_boxes_at_the_border():
    boxes = [[5, 5, 6, 6], [89, 69, 90, 70], [80, 0, 90, 70]]
    masks = refine(boxes, [FULL, FULL, LEFT_HALF])
    assert masks.status == ["ok"] * 3 and masks.scores[:2] == [1.0, 1.0]
    assert [mask.sum() for mask in dense(masks)][:2] == [1, 1]


@pytest.mark.parametrize(("side", "kept"), [(38, False), (39, True)])
def test_perfect_squares_at_the_published_threshold(side, kept):
    box = np.array([3.0, 4.0, 3.0 + side, 4.0 + side])
    legacy = mask_confidence(box, box, 90, 90, "legacy")
    assert legacy == pytest.approx(side**2 / (side + 1) ** 2)
    assert (legacy > 0.95) == kept
    assert mask_confidence(box, box, 90, 90, "exact") == 1.0


@pytest.mark.parametrize("mode", ["legacy", "exact"])
def test_empty_mask_has_no_confidence(mode):
    assert tight_box((np.zeros((3, 3), dtype=bool), 0, 0)) is None
    assert mask_confidence(None, [0, 0, 6, 6], 90, 90, mode) == 0.0


def test_exact_confidence_of_a_fractional_box():
    filled = np.array([3.0, 4.0, 9.0, 10.0])
    assert mask_confidence(filled, [3.6, 4.2, 8.1, 9.5], 90, 90, "exact") == 1.0


def test_legacy_box_is_truncated_side_by_side():
    box = np.array([10.9, 2.1, 10.9 + 12.4, 2.1 + 40.8], dtype=np.float32)
    np.testing.assert_array_equal(truncated_box(box), [10, 2, 22, 42])
    exact_side = np.array([500.3, 2.1, 500.3 + 20.0, 2.1 + 40.0], dtype=np.float32)
    np.testing.assert_array_equal(truncated_box(exact_side), [500, 2, 520, 42])
