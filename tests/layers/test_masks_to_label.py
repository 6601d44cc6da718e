import tracemalloc

import numpy as np

from tests.masks import rectangle
from wsis.layers.masks_to_label import contained_boxes, semantic_label
from wsis.structures import Crop

SHAPE = (8, 10)


def label(*instances: tuple[int, list[int], np.ndarray], region=None) -> np.ndarray:
    labels, boxes, masks = zip(*instances, strict=True)
    regions = masks if region is None else region
    return semantic_label(labels, boxes, list(map(crop, masks)), list(map(crop, regions)), *SHAPE)


def crop(mask: np.ndarray) -> Crop:
    """The mask on the smallest window that holds it."""
    rows, columns = np.nonzero(mask)
    x0, y0 = columns.min(), rows.min()
    return mask[y0 : rows.max() + 1, x0 : columns.max() + 1], int(x0), int(y0)


LEFT_BOX, RIGHT_BOX = [0, 0, 6, 8], [4, 0, 10, 8]
LEFT, RIGHT = rectangle(SHAPE, *LEFT_BOX), rectangle(SHAPE, *RIGHT_BOX)


def test_pixels_of_one_class_and_of_two() -> None:
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[:, :6], expected[:, 4:] = 3, 7
    expected[:, 4:6] = 255
    found = label((3, LEFT_BOX, LEFT), (7, RIGHT_BOX, RIGHT))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    both = label((3, LEFT_BOX, LEFT), (3, RIGHT_BOX, RIGHT))
    assert (both == 3).all()


def test_smaller_boxes_inside_write_last() -> None:
    middle, small = rectangle(SHAPE, 2, 2, 8, 8), rectangle(SHAPE, 3, 3, 5, 5)
    whole = (1, [0, 0, 10, 8], rectangle(SHAPE, 0, 0, 10, 8))
    found = label((3, [3, 3, 5, 5], small), whole, (2, [2, 2, 8, 8], middle))  # edges touch
    expected = np.ones(SHAPE)
    expected[middle], expected[small] = 2, 3
    np.testing.assert_array_equal(found, expected)


def test_equal_boxes_do_not_contain_each_other() -> None:
    assert (label((3, LEFT_BOX, LEFT), (7, LEFT_BOX, LEFT))[LEFT] == 255).all()
    boxes = [[0, 0, 6, 8], [0, 0, 6, 8], [0, 0, 6, 7], [5, 0, 9, 8]]
    assert contained_boxes(boxes).tolist() == [False, False, True, False]
    assert contained_boxes(np.zeros((0, 4))).tolist() == []


def test_doubt_of_any_instance_wins_over_all() -> None:
    region = np.stack([LEFT, RIGHT | rectangle(SHAPE, 0, 0, 2, 4)])
    found = label((3, LEFT_BOX, LEFT), (7, RIGHT_BOX, RIGHT), region=region)
    assert (found[:4, :2] == 255).all() and (found[4:, :4] == 3).all()
    inner = label(
        (3, [0, 0, 10, 8], LEFT),
        (7, [1, 1, 4, 4], rectangle(SHAPE, 1, 1, 4, 4)),
        region=np.stack([LEFT, rectangle(SHAPE, 1, 1, 6, 6)]),
    )
    assert (inner[1:4, 1:4] == 7).all() and (inner[4:6, 1:6] == 255).all()


def test_an_image_without_boxes_is_background() -> None:
    found = semantic_label([], np.zeros((0, 4)), [], [], *SHAPE)
    assert found.shape == SHAPE and not found.any()


def test_masks_of_hundreds_of_boxes_are_not_all_spread_at_once() -> None:
    size, number = 1000, 400  # 0.4 GB as images
    small = [(np.ones((5, 5), dtype=bool), 40 * (i % 20), 40 * (i // 20)) for i in range(number)]
    boxes = [[x, y, x + 5, y + 5] for _, x, y in small]
    tracemalloc.start()
    found = semantic_label([1] * number, boxes, small, small, size, size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found == 1).sum() == 25 * number
    assert peak < 20 * size * size
