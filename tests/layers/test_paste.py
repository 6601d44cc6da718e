import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image

from tests.golden.reference import paste_bordered
from tests.masks import needs_crf, overlap, rectangle
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.paste import (
    bordered_crop,
    box_crop,
    byte_mask,
    minmax_normalise,
    place_crop,
    quantise,
)
from wsis.layers.paste_crf import paste_with_crf, saturate

FULL = np.ones((28, 28), np.float32)


@pytest.mark.parametrize("x0", [-9, -2, 0, 3, 6, 20])
@pytest.mark.parametrize("y0", [-9, -1, 0, 4, 5, 20])
def test_place_crop_cuts_at_the_image(x0, y0):
    crop = np.arange(1, 7).reshape(2, 3)
    canvas = np.zeros((60, 60), dtype=int)
    canvas[20 + y0 : 22 + y0, 20 + x0 : 23 + x0] = crop
    np.testing.assert_array_equal(place_crop(crop, x0, y0, 5, 6), canvas[20:25, 20:26])


def test_left_half_fills_exactly_its_columns_and_bytes_are_floored():
    half = rectangle((80, 80), 0, 0, 40, 80).astype(np.float32)
    mask = place_crop(byte_mask(quantise(minmax_normalise(half)), 40, 40), 10, 20, 70, 90)
    np.testing.assert_array_equal(mask, rectangle((70, 90), 10, 20, 30, 60))
    assert byte_mask(quantise(np.full((2, 2), 128 / 255 + 1e-6)), 2, 2).all()
    assert not byte_mask(quantise(np.full((2, 2), 127.99 / 255)), 2, 2).any()
    for size in ((0, 4), (4, 0), (0, 0)):  # a box without area has no pixel
        assert byte_mask(np.full((5, 5), 255, dtype=np.uint8), *size).shape == size


def test_constant_map_becomes_zero_and_contrast_is_kept():
    maps = np.stack([np.full((3, 3), 0.3), 1e-4 * np.arange(9).reshape(3, 3)]).astype(np.float32)
    out = minmax_normalise(maps)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[0], 0)
    assert out[1].min() == 0 and out[1].max() == 1


def test_bordered_paste_of_a_full_map_fills_the_box():
    # the box grows by 1 cell (1 px) on each side to 29..59, 31 pixels wide for 30 cells
    mask = paste_bordered(FULL, [30, 40, 58, 68], 100, 100)
    np.testing.assert_array_equal(mask, rectangle((100, 100), 30, 40, 59, 69))


def test_bordered_crop_over_the_border_and_outside():
    crop, box = bordered_crop(FULL, [-20, -10, 30, 30], 50, 60)
    assert box == (0, 0, 31, 31) and crop.shape == (32, 32)
    crop, box = bordered_crop(FULL, [20, 20, 90, 80], 50, 60)
    assert box[2:] == (60, 50) and crop.shape == (50 - box[1], 60 - box[0])
    for outside in ([100, 5, 120, 20], [-50, 5, -10, 20], [5, 80, 20, 90]):
        assert bordered_crop(FULL, outside, 50, 60)[0].size == 0
        assert not paste_bordered(FULL, outside, 50, 60).any()


def test_saturate_lifts_the_top_share():
    crop = np.random.default_rng(0).permutation(400).reshape(20, 20).astype(np.float32) / 800
    # the pixel of rank int(0.15 * 400) and those above it; a larger share of few pixels
    assert (saturate(crop) > 1 - 1e-6).sum() == 61
    tiny = np.arange(1, 11, dtype=np.float32).reshape(2, 5) / 20
    assert (saturate(tiny) > 1 - 1e-6).sum() == 3
    np.testing.assert_array_equal(saturate(np.zeros((3, 4), np.float32)), 0)


@needs_crf
@pytest.mark.parametrize("side", [20, 170], ids=["zoomed", "whole"])
def test_crf_paste_finds_the_object(side):
    image = np.random.default_rng(0).integers(90, 100, (200, 220, 3), dtype=np.uint8)
    truth = rectangle((200, 220), 15, 10, 15 + side, 10 + side)
    image[truth] += 120
    # sure of the middle only: the colours must do the rest
    coarse = np.where(rectangle((28, 28), 8, 8, 20, 20), 0.9, 0.4).astype(np.float32)
    params = DenseCRFParams(3.0, 1.0, 4.0, 67.0, 3.0, iterations=10)
    mask = paste_with_crf(image, coarse, [15, 10, 15 + side, 10 + side], params)
    assert mask.dtype == bool and overlap(mask, truth) > 0.9


@needs_crf
def test_crf_paste_of_degenerate_boxes_in_tiny_images():
    params = DenseCRFParams(3.0, 1.0, 4.0, 67.0, 3.0, iterations=1)
    for height, width in ((1, 1), (2, 3)):
        image = np.zeros((height, width, 3), dtype=np.uint8)
        for box in ([0, 0, 0, 0], [0, 0, width, height], [50, 50, 60, 60], [-9, -9, -8, -8]):
            assert paste_with_crf(image, FULL, box, params).shape == (height, width)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_a_crop_of_a_box_has_the_pixels_of_detectron2s_paste(threshold):
    rng = np.random.default_rng(3)
    corners = rng.uniform(-4, (60, 44), (40, 2))
    boxes = np.hstack([corners, corners + rng.uniform(0.2, 40, (40, 2))]).astype(np.float32)
    boxes[0], boxes[1] = (0, 0, 64, 48), (63.5, 47.5, 64, 48)
    maps = rng.random((40, 14, 14), dtype=np.float32)
    whole = paste_masks_in_image(
        torch.from_numpy(maps), torch.from_numpy(boxes), (48, 64), threshold
    ).numpy()
    assert whole.any(axis=(1, 2)).sum() > 30
    for cells, box, expected in zip(maps, boxes, whole, strict=True):
        mask, x0, y0 = box_crop(cells, box, 48, 64, threshold)
        assert min(mask.shape) > 0 and (x0 + mask.shape[1], y0 + mask.shape[0]) <= (64, 48)
        np.testing.assert_array_equal(place_crop(mask, x0, y0, 48, 64), expected)
