import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsis.data.crops import draw_jitter, jittered_windows

SHIFT, SCALE = 0.25, (0.5, 1.5)


def test_without_guard_a_window_may_be_empty_and_no_boxes_have_none():
    (window,) = jittered_windows([[0, 0, 1, 1]], [[0, 0, 0.5, 0.5]], 20, 20, guard=False)
    assert (window[:2] == window[2:]).all()
    assert jittered_windows(np.zeros((0, 4)), np.zeros((0, 4)), 5, 5).shape == (0, 4)


@given(
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_no_window_is_empty_or_leaves_the_image(size, corners, seed):
    height, width = size
    x0, y0 = int(corners[0] * (width - 1)), int(corners[1] * (height - 1))
    box = [x0, y0, x0 + 1 + int(corners[2] * (width - 1 - x0)), 0]
    box[3] = y0 + 1 + int(corners[3] * (height - 1 - y0))
    jitter = draw_jitter(np.random.default_rng(seed), 8, SHIFT, SCALE)
    windows = jittered_windows([box] * 8, jitter, height, width)
    assert (windows >= 0).all() and (windows[:, 2:] > windows[:, :2]).all()
    assert (windows[:, 2:] <= (width, height)).all()


def test_jitter_is_drawn_row_by_row_in_its_range():
    jitter = draw_jitter(np.random.default_rng(1), 2000, SHIFT, SCALE)
    np.testing.assert_allclose(jitter.min(axis=0), [-0.25, -0.25, 0.5, 0.5], atol=0.01)
    np.testing.assert_allclose(jitter.max(axis=0), [0.25, 0.25, 1.5, 1.5], atol=0.01)
    first = draw_jitter(np.random.default_rng(1), 1, SHIFT, SCALE)
    np.testing.assert_array_equal(first[0], jitter[0])
