import numpy as np
import pytest
import torch
from skimage.transform import resize

from tests.golden.reference import resize_mask
from tests.masks import rectangle
from wsis.methods.boxcaseg.transforms import (
    BOX_MEAN,
    MEAN,
    STD,
    SalientWindow,
    box_label,
    box_pixels,
    is_grey,
    nearest,
    prepare_crops,
    resize_square,
    salient_sample,
)


def noise(*shape, high=256):
    return np.random.default_rng(0).integers(0, high, shape, dtype=np.uint8)


def salient(image, mask=None, *, turned=False, at=(0, 0), resized, size=None, legacy=True):
    """The image and the label of a window, by default of all."""
    mask = np.ones(image.shape[:2], bool) if mask is None else mask
    normalisation, window = "legacy" if legacy else "unified", SalientWindow(turned, *at)
    return salient_sample(image, mask, window, resized, size or resized, normalisation)


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (30, 44), (3, 60), (1, 9), (1, 1), (12, 12)])
def test_resize_is_that_of_scikit_image(shape, mirror):
    image, how = noise(*shape, 3), {"mode": "reflect" if mirror else "constant"}
    for part in (image, image[..., 1:2]):
        found = resize_square(part, 12, mirror=mirror)
        expected = resize(part, (12, 12), anti_aliasing=True, preserve_range=True, **how)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_made_in_given_memory():
    image, out = noise(20, 9, 3), np.empty((2, 3, 12, 12), dtype=np.float32)
    for normalisation in ("legacy", "unified"):
        box_pixels(image, 12, normalisation, out[1])
        np.testing.assert_array_equal(out[1], box_pixels(image, 12, normalisation))


@pytest.mark.parametrize("length", [1, 5, 12, 13, 40])
def test_nearest_is_the_pixel_under_the_centre(length):
    index = nearest(length, 12)
    np.testing.assert_array_equal(index, np.floor((np.arange(12) + 0.5) * length / 12))
    mask = np.arange(length * 3).reshape(3, length)
    np.testing.assert_array_equal(resize_mask(mask, 12)[4], mask[1, index])


@pytest.mark.parametrize(("length", "size"), [(36, 33), (18, 33), (392, 12), (72, 36), (500, 288)])
def test_nearest_of_two_equally_near_pixels_is_that_of_scikit_image(length, size):
    expected = resize(np.arange(length), (size,), order=0, preserve_range=True)
    np.testing.assert_array_equal(nearest(length, size), expected)


@pytest.mark.parametrize(
    "window", [(0, 0, 30, 20), (12, 5, 15, 8), (15, 2, 25, 19), (20, 10, 22, 12)]
)
def test_box_label_is_the_resized_mask_of_the_box(window):
    x0, y0, x1, y1 = window
    crop, touched = (slice(y0, y1), slice(x0, x1)), (slice(4, 9), slice(10, 18))
    expected = resize_mask(rectangle((20, 30), 10, 4, 18, 9)[crop], 16)
    np.testing.assert_array_equal(box_label(touched, crop, 16), expected)


def test_white_in_both_domains():
    white = np.full((20, 20, 3), 255, dtype=np.uint8)
    box = box_pixels(white, 20, "legacy")
    expected = 1 - np.array([102.9801, 115.9465, 122.7717]) / 255
    np.testing.assert_allclose(box, np.broadcast_to(expected[:, None, None], box.shape), atol=1e-6)
    image, _ = salient(white, resized=20)
    np.testing.assert_allclose(image[:, 3, 4], (1 - MEAN) / STD, atol=1e-5)


def test_legacy_salient_image_is_stretched_to_its_maximum():
    bright, dim, black = (
        salient(np.full((9, 9, 3), v, np.uint8), resized=12)[0] for v in (255, 128, 0)
    )
    np.testing.assert_allclose(bright, dim, atol=1e-6)
    np.testing.assert_allclose(black[:, 0, 0], -MEAN / STD, atol=1e-6)


def test_unified_is_one_rule_for_both():
    image = noise(14, 14, 3, high=200)
    for given, shown in ((image, image), (image[..., :1], image[..., [0, 0, 0]])):
        found, _ = salient(given, resized=20, legacy=False)
        np.testing.assert_allclose(found, box_pixels(shown, 20, "unified"), atol=1e-6)


def test_legacy_box_fades_at_its_border_unless_it_shrinks():
    crop = np.full((4, 4, 3), 200, np.uint8)
    crop[2, 2] = 10
    image = box_pixels(crop, 16, "legacy") + BOX_MEAN[:, None, None]
    assert image[0, 0, 8] < 0.7 * 200 / 255 and image[0, 2, 2] > 0.95 * 200 / 255


def test_grey_salient_image_takes_the_numbers_of_red():
    grey = noise(10, 8, 1)
    image, colour = (salient(each, resized=16)[0] for each in (grey, grey[..., [0, 0, 0]]))
    np.testing.assert_array_equal(image[0], image[2])
    np.testing.assert_allclose(image[0], colour[0], atol=1e-6)
    assert abs(image[1] - colour[1]).max() > 0.05


def test_window_of_a_turned_image():
    image, mask = noise(16, 16, 3), np.arange(256).reshape(16, 16) % 3 == 0
    where = {"turned": True, "at": (3, 1), "resized": 16, "size": 10}
    got, label = salient(image, mask, **where, legacy=False)
    cut = slice(None, None, -1), (slice(3, 13), slice(1, 11))
    expected = (each[cut[0]][cut[1]] for each in (image, mask))
    image, expected_label = salient(*expected, resized=10, legacy=False)
    np.testing.assert_allclose(got, image, atol=1e-6)
    np.testing.assert_array_equal(label, expected_label)
    assert label.dtype == bool and label.shape == (1, 10, 10)


def test_mask_without_a_pixel_stays_so():
    empty = np.zeros((6, 6), bool)
    assert not salient(np.zeros((6, 6, 3), np.uint8), empty, turned=True, resized=8)[1].any()


def test_grey_means_three_equal_channels():
    image = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    assert is_grey(image)
    image[1, 1, 2] += 1
    assert not is_grey(image)
    image[1, 1] = image[0, 0] = (5, 6, 5)
    assert not is_grey(image)


IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("normalisation", ["legacy", "unified"])
def test_crop_is_exactly_the_box_with_every_pixel_it_touches(normalisation):
    whole = [[3, 4, 20, 25], [0, 0, 40, 30], [39, 29, 40, 30]]
    crops = prepare_crops(IMAGE, [*whole, [3.2, 4.9, 19.1, 24.01]], 16, normalisation)
    assert crops.shape == (4, 3, 16, 16) and crops.dtype == torch.float32
    for crop, (x0, y0, x1, y1) in zip(crops, [*whole, [3, 4, 20, 25]], strict=True):
        np.testing.assert_array_equal(crop, box_pixels(IMAGE[y0:y1, x0:x1], 16, normalisation))


def test_no_boxes_and_boxes_without_area():
    assert prepare_crops(IMAGE, np.zeros((0, 4)), 16, "legacy").shape == (0, 3, 16, 16)
    crops = prepare_crops(IMAGE, [[7.2, 5, 7.2, 5], [40, 30, 40, 30]], 16, "legacy")
    assert torch.isfinite(crops).all()
