import numpy as np
import pytest

from benchmarks.contour import class_loop
from tests.masks import rectangle
from wsis.layers import contour
from wsis.layers.contour import (
    boundary_counts,
    boundary_map,
    contour_counts,
    contour_f,
    matching_radius,
)

RADIUS = matching_radius(100, 100)


def square(x=40, y=40, side=20):
    return rectangle((100, 100), x, y, x + side, y + side).astype(np.uint8)


def score(target, prediction, num_classes=1):
    return contour_f(contour_counts(target, prediction, num_classes))


def test_radius():
    sizes = (375, 500), (480, 640), (1, 1)
    assert [matching_radius(*size) for size in sizes] == [5, 7, 1]


def test_boundary_by_hand_without_the_image_frame():
    expected = [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(boundary_map(rectangle((4, 4), 1, 1, 3, 3)), expected)
    assert not boundary_map(np.ones((5, 7))).any()
    half = rectangle((5, 6), 3, 0, 6, 5)
    np.testing.assert_array_equal(np.argwhere(boundary_map(half).any(axis=0)), [[2]])
    assert boundary_map(half)[-1, 2]


def test_shift_within_and_beyond_the_radius():
    near, far, beyond = (score(square(), square(x=40 + k * RADIUS))[0] for k in (1, 2, 15))
    assert near == 1.0 and 0.0 < far < 1.0 and beyond == 0.0


def test_diagonal_reach_is_a_disk():  # of radius 2: (2, 2) lies outside of it, inside the square
    far, near = square(side=1), square(side=1, x=40 + RADIUS + 2, y=40 + RADIUS + 2)
    # boundaries are 2 x 2 blocks at (39..40); their nearest pixels differ by (RADIUS + 1) each way
    assert contour_counts(far, near, 1)[0, 0] == 0
    near = square(side=1, x=40 + RADIUS, y=40 + RADIUS)
    assert 0 < contour_counts(far, near, 1)[0, 0] < 4


def test_absent_one_sided_and_void():
    empty = np.zeros((100, 100), dtype=np.uint8)
    np.testing.assert_array_equal(score(square(), empty, 3), [0, np.nan, np.nan])
    counts = contour_counts(square(), empty, 3)
    np.testing.assert_array_equal(contour_f(counts, absent=1.0), [0, 1, 1])
    np.testing.assert_array_equal(contour_counts(square() * 255, empty, 3), np.zeros((3, 4)))


def test_large_radii_reach_as_far_as_small_ones_do(monkeypatch):
    masks = np.random.default_rng(0).random((2, 90, 70)) < [[[0.02]], [[0.01]]]
    disk = [boundary_counts(*masks, radius) for radius in (1, 5, 15)]
    monkeypatch.setattr(contour, "_LARGE", 0)
    np.testing.assert_array_equal(disk, [boundary_counts(*masks, r) for r in (1, 5, 15)])
    assert len({count for counts in disk for count in counts[:2]}) == 6


def test_windows_of_the_classes_count_as_the_whole_image_does():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (3, 40), (60, 50)):
        blocks = [rng.integers(0, 5, (-(-size[0] // 7), -(-size[1] // 7))) for _ in range(2)]
        maps = [np.kron(b, np.ones((7, 7), int))[: size[0], : size[1]] for b in blocks]
        plain = class_loop(*maps, 6)
        np.testing.assert_array_equal(contour_counts(*maps, 6), plain)
        assert size != (60, 50) or plain.any(axis=0).all()


def test_counts_are_pooled_before_the_ratio():
    big, small = square(side=50, x=20, y=20), square(side=4)
    counts = [contour_counts(big, big, 1), contour_counts(small, square(side=4, x=90), 1)]
    pooled = contour_f(np.sum(counts, axis=0))[0]
    assert pooled == pytest.approx(counts[0][0, 2] / (counts[0][0, 2] + counts[1][0, 2]))
    assert pooled != pytest.approx(np.mean([contour_f(c)[0] for c in counts]), abs=0.1)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="prediction"):
        contour_counts(np.zeros((3, 4)), np.zeros((4, 3)), 1)
