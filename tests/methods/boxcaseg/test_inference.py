import numpy as np
import pytest
import torch

from wsis.methods.boxcaseg.inference import byte_maps, prepare_crops
from wsis.methods.boxcaseg.transforms import box_pixels

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


def test_bytes_are_stretched_and_floored():
    maps = torch.tensor([[[0.2, 0.3, 0.4, 0.6]], [[0.7, 0.7, 0.7, 0.7]]])
    np.testing.assert_array_equal(byte_maps(maps), [[[0, 63, 127, 255]], [[0, 0, 0, 0]]])
    assert byte_maps(maps.bfloat16()).dtype == np.uint8
    assert byte_maps(torch.zeros(0, 8, 8)).shape == (0, 8, 8)
