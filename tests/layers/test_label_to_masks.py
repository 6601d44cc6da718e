"""Boxes on the pixel grid, and the masks that a label gives them."""

import numpy as np
import pytest
import torch

from tests.masks import rectangle
from wsis.layers.label_to_masks import ImageBoxes, image_boxes, masks_from_label, union
from wsis.structures import Seed
from wsis.structures.boxes import box_to_slices
from wsis.structures.rle import decode_mask, encode_mask

SIZE = (6, 10)


def seed(*boxes, classes=None, void=()):
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    ids = np.array(classes or [0] * len(boxes), np.int64)
    return Seed(1, "a.png", *SIZE, corners, ids, tuple(range(len(boxes))), void=list(void))


def boxes_of(*corners, labels):
    slices = [box_to_slices(box, *SIZE) for box in corners]
    return ImageBoxes(SIZE, slices, np.array(labels), ~union(slices, SIZE))


@pytest.mark.parametrize(
    ("boxes", "touched"),
    [
        ([], []),
        ([[7, 4, 8, 5]], [(4, 5, 7, 8)]),
        ([[7.2, 4.1, 7.2, 4.1]], [(4, 5, 7, 8)]),
        ([[2.5, 1, 4.2, 3], [-3, 0, 1, 2]], [(1, 3, 2, 5), (0, 2, 0, 1)]),
    ],
)
def test_a_box_is_the_pixels_that_it_touches(boxes, touched):
    found = image_boxes(seed(*boxes))
    assert found.boxes == [(slice(y0, y1), slice(x0, x1)) for y0, y1, x0, x1 in touched]
    expected = torch.ones(SIZE, dtype=torch.bool)
    for box in found.boxes:
        expected[box] = False
    assert torch.equal(found.background, expected)
    assert torch.equal(union(found.boxes, SIZE), ~expected)


def test_void_is_no_background_and_other_corners_may_be_taken():
    void = rectangle(SIZE, 8, 0, 10, 6)
    given = seed([0, 0, 3, 3], [2, 2, 5, 5], classes=[4, 1], void=[encode_mask(void)])
    found = image_boxes(given, np.array([[1, 1, 3, 3], [3, 3, 5, 5]]))
    assert found.boxes == [(slice(1, 3), slice(1, 3)), (slice(3, 5), slice(3, 5))]
    assert found.background.sum() == 6 * 8 - 4 - 4 and not found.background[:, 8:].any()
    assert found.labels.tolist() == [5, 2] and found.present == [2, 5]


def test_regions_are_unions_of_a_labels_boxes():
    boxes = boxes_of([0, 0, 2, 2], [4, 4, 6, 6], [1, 1, 3, 3], labels=[7, 2, 7])
    assert boxes.present == [2, 7] and boxes.boxes_of(7) == [boxes.boxes[0], boxes.boxes[2]]
    regions = boxes.regions()
    assert regions.shape == (2, *SIZE) and regions.sum(dim=(1, 2)).tolist() == [4, 4 + 4 - 1]
    assert boxes_of(labels=[]).regions().shape == (0, *SIZE)


def test_a_pixel_that_several_boxes_claim_is_the_smallest_ones():
    label = np.ones(SIZE, dtype=np.uint8)
    label[:, 9] = 2
    corners = [0, 0, 8, 6], [4, 0, 8, 4], [4, 2, 8, 6], [5, 0, 10, 6]
    given = seed(*corners, classes=[0, 0, 0, 1])
    found = masks_from_label(given, image_boxes(given), label)
    masks = [decode_mask(each).astype(bool) for each in found.masks]
    assert np.array_equal(masks[1], rectangle(SIZE, 4, 0, 8, 4)), "of two small ones the first"
    assert np.array_equal(masks[2], rectangle(SIZE, 4, 4, 8, 6))
    assert np.array_equal(masks[0], rectangle(SIZE, 0, 0, 4, 6))
    assert np.array_equal(masks[3], rectangle(SIZE, 9, 0, 10, 6)), "the other class takes nothing"


def test_boxes_of_one_size_share_what_both_claim():
    given = seed([0, 0, 6, 6], [4, 0, 10, 6], classes=[0, 0])
    boxes, label = image_boxes(given), np.ones(SIZE, dtype=np.uint8)
    found = masks_from_label(given, boxes, label, contested="nearest")
    assert [decode_mask(each).sum() for each in found.masks] == [30, 30]


def test_a_box_without_a_pixel_is_filled_and_void_is_ignored():
    given = seed([0, 0, 4, 3], [5, 0, 9, 6], classes=[0, 1])
    label = np.zeros(SIZE, np.uint8)
    label[1, 1:3], label[2, 3], label[:, 4] = 1, 255, 255
    masks = masks_from_label(given, image_boxes(given), label)
    assert masks.status == ["ok", "fallback"] and masks.scores == [1.0, 1.0]
    assert np.array_equal(decode_mask(masks.masks[0]), label == 1)
    assert decode_mask(masks.masks[1]).sum() == decode_mask(masks.masks[1])[:, 5:9].sum() == 24
    assert np.argwhere(decode_mask(masks.ignore_masks[0])).tolist() == [[2, 3]]
    assert masks.ignore_masks[1] is None
