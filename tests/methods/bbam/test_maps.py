import numpy as np
import pytest

from tests.golden.reference import stored_map, stored_picture
from wsis.methods.bbam.maps import map_at_image


@pytest.mark.parametrize("at_image", [map_at_image, stored_map])
def test_without_contrast_there_is_no_map(at_image):
    for mask in (
        *(np.full((3, 4), value) for value in (0.0, 0.4, 255)),
        np.zeros((1, 1), np.uint8),
    ):
        assert at_image(mask, 12, 16) is None


def test_runs_from_0_to_1_whatever_the_scale():
    mask = np.array([[10, 20], [30, 110]], dtype=np.uint8)
    before, found = mask.copy(), map_at_image(mask, 9, 9)
    assert found is not None and found.dtype == np.float32
    assert found.min() == 0 and found.max() == 1
    np.testing.assert_array_equal(mask, before)
    np.testing.assert_allclose(map_at_image(mask / 7000, 9, 9), found, atol=1e-6)


def test_outermost_cells_lie_on_outermost_pixels():
    ramp = np.array([[0.0, 1.0]])
    np.testing.assert_allclose(map_at_image(ramp, 1, 5)[0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(stored_map(ramp, 1, 4)[0], [0, 0.25, 0.75, 1])


def test_pictures_are_truncated_and_halved():
    picture = stored_picture(np.full((2, 3), 0.999, dtype=np.float32), 121, 61)
    assert picture.shape == (60, 30) and picture.dtype == np.uint8 and (picture == 254).all()
