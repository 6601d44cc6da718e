"""Crops for training: image, background and boxes stay together."""

import numpy as np
import pytest

from wsis.data.crop_transform import CropParams, CropTransform, Draw, draw_sample, shifted_hsv


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_boxes_stay_on_their_pixels(scale, flip):
    box = [12, 20, 40, 36]
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[20:36, 12:40] = 255
    transform = CropTransform((60, 80), (48, 48), Draw(scale, 0.4, 0.7, flip))
    found, seen = transform.boxes(np.array([box]))
    padding = transform.label(np.zeros((60, 80), np.uint8), 255) == 255
    rows, columns = np.nonzero((transform.image(image).max(axis=2) > 140) & ~padding)
    tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert seen.tolist() == [True]
    assert np.abs(found[0] - tight).max() <= 1


def test_a_box_beyond_the_crop_is_gone_and_a_cut_one_ends_at_its_edge():
    transform = CropTransform((100, 100), (40, 40), Draw(1.0, 0.0, 0.0, False))
    boxes = np.array([[50, 50, 60, 60], [30, 30, 70, 70], [0, 40, 10, 50], [0, 0, 100, 100]])
    found, seen = transform.boxes(boxes)
    assert seen.tolist() == [False, True, False, True]
    assert found.tolist() == [[30, 30, 40, 40], [0, 0, 40, 40]]


def grey(pixels):
    return pixels @ np.array([0.2989, 0.587, 0.114])


def test_brightness_contrast_and_saturation_in_this_order_and_in_range():
    def coloured(image, *factors):
        size = image.shape[:2]
        return CropTransform(size, size, Draw(1, 0, 0, False, factors)).image(image)

    flat = np.full((8, 8, 3), 100, np.uint8)
    assert np.allclose(coloured(flat, 1.5, 1.0, 1.0), 150, atol=1e-3)
    assert coloured(flat + 120, 1.5, 1.5, 1.5).max() <= 255
    image = np.array([[[40, 80, 120], [200, 100, 60]]], np.uint8)
    expected = 0.8 * image.astype(np.float64)
    expected = 0.7 * expected + 0.3 * grey(expected).mean()
    expected = 1.2 * expected - 0.2 * grey(expected)[..., None]
    assert np.allclose(coloured(image, 0.8, 0.7, 1.2), expected, atol=0.1)


def test_draws_cover_their_ranges():
    draws = [draw_sample(CropParams(scale_range=(0.5, 1.5), jitter=0.5)) for _ in range(300)]
    scales = [draw.scale for draw in draws]
    assert 0.5 <= min(scales) < 0.6 and 1.4 < max(scales) <= 1.5
    factors = np.array([draw.colours for draw in draws])
    assert (factors >= 0.5).all() and (factors <= 1.5).all() and np.ptp(factors, axis=0).min() > 0.9
    assert 100 < sum(draw.flip for draw in draws) < 200
    places = np.array([(draw.x, draw.y) for draw in draws])
    assert places.min() >= 0 and places.max() < 1 and np.ptp(places, axis=0).min() > 0.9
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.3


def test_hue_goes_round_and_saturation_and_value_end_at_their_limits():
    red, black = (np.full((2, 2, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 0)))
    assert shifted_hsv(red, (60, 0, 0))[0, 0].tolist() == [0, 200, 0]
    assert shifted_hsv(red, (-120, 0, 0))[0, 0].tolist() == [0, 200, 0]
    assert shifted_hsv(red, (0, 10, 90))[0, 0].tolist() == [255, 0, 0]
    assert shifted_hsv(black, (10, 10, -10))[0, 0].tolist() == [0, 0, 0]
    grey = shifted_hsv(red, (0, -255, 0))[0, 0].tolist()
    assert grey == [200] * 3
    size = red.shape[:2]
    whole = CropTransform(size, size, Draw(1, 0, 0, False, hsv=(60, 0, 0))).image(red)
    assert np.allclose(whole, [0, 200, 0])
    draws = np.array([draw_sample(CropParams(hsv_shift=10)).hsv for _ in range(200)])
    assert draws.min() == -10 and draws.max() == 10
    assert not any(draw_sample(CropParams()).hsv)
