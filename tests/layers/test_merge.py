import numpy as np
import pytest

from wsis.layers.merge import merge_by_area, merge_by_distance
from wsis.layers.paste import place_crop

SIZE = (12, 16)


def square(x0, y0, side):
    return np.ones((side, side), dtype=bool), x0, y0


def test_smaller_area_wins_in_any_order_and_the_earlier_mask_a_tie():
    crops, areas = [square(0, 0, 10), square(2, 2, 6), square(4, 4, 2)], [100, 36, 4]
    expected = [96 + 4 - 36, 36 - 4, 4]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        merged = merge_by_area([crops[i] for i in order], [areas[i] for i in order], *SIZE)
        assert [mask.sum() for mask in merged] == [expected[i] for i in order]
    merged = merge_by_area([square(0, 0, 4), square(2, 0, 4)], [16, 16], *SIZE)
    assert merged[0].all() and merged[1].sum() == 8


@pytest.mark.parametrize("merge", [merge_by_area, merge_by_distance])
def test_result_is_disjoint_and_covers_the_same_pixels(merge):
    rng = np.random.default_rng(0)
    crops = [(rng.random((7, 8)) < 0.6, int(x), int(y)) for x, y in rng.integers(0, 5, (9, 2))]
    boxes = np.array([[x, y, x + 8, y + 7] for _, x, y in crops])
    merged = merge(crops, rng.permutation(9) if merge is merge_by_area else boxes, *SIZE)
    made = [(mask, *crop[1:]) for mask, crop in zip(merged, crops, strict=True)]
    before, after = (
        sum(place_crop(*crop, *SIZE).astype(int) for crop in each) for each in (crops, made)
    )
    np.testing.assert_array_equal(after, before > 0)


@pytest.mark.parametrize(
    ("boxes", "left"),
    [
        ([[0, 0, 8, 4], [4, 0, 12, 4]], [24, 24]),  # equal ones share in the middle
        ([[0, 0, 4, 4], [3, 0, 7, 4]], [16, 12]),  # as far from both: the earlier one's
        ([[0, 0, 12, 12], [4, 4, 8, 8]], [144 - 16, 16]),  # the inner one keeps its own
    ],
)
def test_a_contested_pixel_is_nearest_to_the_middle_of_its_box(boxes, left):
    crops = [(np.ones((y1 - y0, x1 - x0), dtype=bool), x0, y0) for x0, y0, x1, y1 in boxes]
    merged = merge_by_distance(crops, np.array(boxes), 12, 12)
    assert [mask.sum() for mask in merged] == left


def test_no_masks_and_masks_without_pixels():
    assert merge_by_area([], [], *SIZE) == merge_by_distance([], np.zeros((0, 4)), *SIZE) == []
    merged = merge_by_area([(np.zeros((3, 3), dtype=bool), 1, 1), square(0, 0, 4)], [1, 9], *SIZE)
    assert not merged[0].any() and merged[1].all()
