from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsis.data.crops import draw_jitter, jittered_windows

SHIFT, SCALE = 0.25, (0.5, 1.5)


def test_jitter_follows_the_formula() -> None:
    windows = jittered_windows([[40, 30, 80, 60]], [[0.25, -0.2, 0.5, 1.5]], 240, 320)
    # centre 60 + 5, 45 - 3; half sides 10 and 22.5
    np.testing.assert_array_equal(windows, [[55, 19, 75, 64]])


def test_last_column_and_row_are_never_seen() -> None:
    windows = jittered_windows([[0, 0, 64, 48]], [[0, 0, 1.5, 1.5]], 48, 64)
    np.testing.assert_array_equal(windows, [[0, 0, 63, 47]])


def test_guard_gives_an_empty_window_one_column() -> None:
    jitter = [[0, 0, 0.5, 0.5]]
    at_edge, inside = [0, 0, 1, 1], [9, 9, 10, 10]
    assert (
        jittered_windows([at_edge], jitter, 20, 20, guard=False)[0, :2]
        == jittered_windows([at_edge], jitter, 20, 20, guard=False)[0, 2:]
    ).all()
    np.testing.assert_array_equal(jittered_windows([at_edge], jitter, 20, 20), [[0, 0, 1, 1]])
    np.testing.assert_array_equal(jittered_windows([inside], jitter, 20, 20), [[8, 8, 9, 9]])


@given(
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_no_window_is_empty_or_leaves_the_image(
    size: tuple[int, int], corners: list[float], seed: int
) -> None:
    height, width = size
    x0, y0 = int(corners[0] * (width - 1)), int(corners[1] * (height - 1))
    box = [x0, y0, x0 + 1 + int(corners[2] * (width - 1 - x0)), 0]
    box[3] = y0 + 1 + int(corners[3] * (height - 1 - y0))
    jitter = draw_jitter(np.random.default_rng(seed), 8, SHIFT, SCALE)
    windows = jittered_windows([box] * 8, jitter, height, width)
    assert (windows >= 0).all() and (windows[:, 2:] > windows[:, :2]).all()
    assert (windows[:, 2:] <= (width, height)).all()


def test_no_boxes_no_windows() -> None:
    assert jittered_windows(np.zeros((0, 4)), np.zeros((0, 4)), 5, 5).shape == (0, 4)


def test_jitter_is_drawn_row_by_row_in_its_range() -> None:
    jitter = draw_jitter(np.random.default_rng(1), 2000, SHIFT, SCALE)
    np.testing.assert_allclose(jitter.min(axis=0), [-0.25, -0.25, 0.5, 0.5], atol=0.01)
    np.testing.assert_allclose(jitter.max(axis=0), [0.25, 0.25, 1.5, 1.5], atol=0.01)
    first = draw_jitter(np.random.default_rng(1), 1, SHIFT, SCALE)
    np.testing.assert_array_equal(first[0], jitter[0])
