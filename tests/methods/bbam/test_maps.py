import numpy as np
import pytest

from wsis.methods.bbam.maps import map_at_image, stored_picture


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.4, 255])
def test_without_contrast_there_is_no_map(value, aligned):
    assert map_at_image(np.full((3, 4), value), 12, 16, aligned) is None
    assert map_at_image(np.zeros((1, 1), np.uint8), 12, 16, aligned) is None


def test_runs_from_0_to_1_whatever_the_scale():
    mask = np.array([[10, 20], [30, 110]], dtype=np.uint8)
    before = mask.copy()
    found = map_at_image(mask, 9, 9)
    assert found is not None and found.dtype == np.float32
    assert found.min() == 0 and found.max() == 1
    np.testing.assert_array_equal(mask, before)
    np.testing.assert_allclose(map_at_image(mask / 7000, 9, 9), found, atol=1e-6)


def test_outermost_cells_lie_on_outermost_pixels():
    ramp = np.array([[0.0, 1.0]])
    np.testing.assert_allclose(map_at_image(ramp, 1, 5)[0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(map_at_image(ramp, 1, 4, aligned=False)[0], [0, 0.25, 0.75, 1])


def test_pictures_are_truncated_and_halved():
    mask = np.full((2, 3), 0.999, dtype=np.float32)
    picture = stored_picture(mask, 121, 61)
    assert picture.shape == (60, 30) and picture.dtype == np.uint8 and (picture == 254).all()
