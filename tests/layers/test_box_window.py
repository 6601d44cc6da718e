"""The surroundings of a box at a size of their own."""

import numpy as np
import pytest

from wsis.layers.box_window import box_window

BOXES = ([2, 3, 9, 8], [0, 0, 1, 1], [0, 20, 60, 21], [0, 0, 60, 40], [58.5, 38.5, 60, 40])


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("side", [0.0, 1.0, 8.0, 100.0])
def test_a_box_keeps_its_place_and_gets_its_size(box, side):
    image = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)
    window = box_window(np.array(box, dtype=float), 1.5, side, 40, 60)
    view, rows_columns = window.view(image), window.box_in_view()
    assert view.shape == window.size and window.back(view).shape == window.inside.shape
    inside = np.zeros(window.size, dtype=bool)
    inside[rows_columns] = True
    seen = window.view_of_box()  # round at its corners where a small box is enlarged
    assert seen.any() and not (seen & ~inside).any() and seen.sum() > 0.8 * inside.sum()
    if side == 0:
        assert np.array_equal(view, image[window.rows, window.columns])
    if side >= 8 and window.inside.sum() > 1:
        assert np.sqrt(inside.sum()) == pytest.approx(side, rel=0.3)
