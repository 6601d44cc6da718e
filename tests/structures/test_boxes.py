"""Boxes against the pixel grid, in closed form."""

import numpy as np
import pytest

from wsis.structures.boxes import (
    box_around_rotated,
    box_to_slices,
    clip_boxes,
    mask_to_box,
    xywh_to_xyxy,
)


def test_corner_form_of_one_and_of_many_boxes():
    assert xywh_to_xyxy([1, 2, 3, 4]).tolist() == [1, 2, 4, 6]
    assert xywh_to_xyxy([[0, 0, 1, 1], [5, 6, 0.5, 2]]).tolist() == [[0, 0, 1, 1], [5, 6, 5.5, 8]]


@pytest.mark.parametrize(
    ("degrees", "half_width", "half_height"),
    [(0, 4, 1), (90, 1, 4), (-180, 4, 1), (45, 5 / 2**0.5, 5 / 2**0.5), (-30, 3.9641, 2.8660)],
)
def test_upright_box_around_a_rotated_one(degrees, half_width, half_height):
    expected = [6 - half_width, 3 - half_height, 6 + half_width, 3 + half_height]
    np.testing.assert_allclose(box_around_rotated([2, 2, 10, 4], degrees), expected, atol=1e-4)


def test_clipping_keeps_what_is_inside_and_flattens_what_is_outside():
    boxes = [[-5, -5, 3, 4], [8, 8, 20, 20], [30, 1, 40, 2]]
    assert clip_boxes(boxes, 10, 12).tolist() == [[0, 0, 3, 4], [8, 8, 12, 10], [12, 1, 12, 2]]


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2, 3, 5, 7), (3, 7), (2, 5)),  # whole pixels: exactly these
        ((2.2, 3.9, 4.1, 4.1), (3, 5), (2, 5)),  # every pixel that is touched
        ((2.4, 2.4, 2.6, 2.6), (2, 3), (2, 3)),  # smaller than a pixel: that pixel
        ((-4, -4, 1, 1), (0, 1), (0, 1)),  # cut by the border
        ((12, 10, 15, 15), (9, 10), (11, 12)),  # beyond it: the nearest pixel
        ((4, 4, 4, 4), (4, 5), (4, 5)),  # no area: one pixel
    ],
)
def test_pixels_that_a_box_touches(box, rows, columns):
    found = box_to_slices(box, 10, 12)
    assert (found[0].start, found[0].stop) == rows
    assert (found[1].start, found[1].stop) == columns


def test_tight_box_is_half_open_and_none_for_nothing():
    mask = np.zeros((6, 8), dtype=bool)
    assert mask_to_box(mask) is None
    mask[5, 7] = True
    assert mask_to_box(mask).tolist() == [7, 5, 8, 6]
    mask[1, 2] = True
    assert mask_to_box(mask).tolist() == [2, 1, 8, 6]
