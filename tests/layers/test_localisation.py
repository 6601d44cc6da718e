"""Boxes of maps, and pixels that count."""

import numpy as np
import pytest

from wsis.layers.localisation import (
    boxes_of_map,
    largest_component,
    max_box_accuracy,
    normalised_map,
    object_mask,
    pixel_scores,
    score_histogram,
)


def mask(*boxes, size=(8, 9)):
    found = np.zeros(size, dtype=bool)
    for x0, y0, x1, y1 in boxes:
        found[y0:y1, x0:x1] = True
    return found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (mask(), None),
        (mask((0, 0, 9, 8)), [0, 0, 9, 8]),
        (mask((1, 1, 3, 3), (5, 5, 7, 7)), [1, 1, 3, 3]),
        # the right one begins in an earlier row
        (mask((1, 2, 3, 4), (5, 1, 7, 3)), [5, 1, 7, 3]),
        (mask((1, 3, 3, 5), (4, 2, 5, 6)), [4, 2, 5, 6]),
        (mask((1, 1, 3, 3), (3, 3, 5, 5), (7, 0, 9, 3)), [1, 1, 5, 5]),
        (mask((6, 4, 9, 8), (0, 0, 2, 2)), [6, 4, 9, 8]),
    ],
    ids=["empty", "whole", "tie", "tie by row", "tie across blocks", "corner", "border"],
)
def test_largest_component(found, expected):
    box = largest_component(found)
    assert (box if box is None else box.tolist()) == expected


def test_ties_go_to_the_first_pixel_whatever_the_labelling():
    rng = np.random.default_rng(0)
    for _ in range(200):
        found = np.zeros((12, 12), dtype=bool)
        places = rng.permutation(36)[:4]
        rows, columns = 2 * (places // 6), 2 * (places % 6)
        found[rows, columns] = True
        found[rows[:2], columns[:2] + 1] = True  # two pairs, two single pixels, unless they touch
        box = largest_component(found)
        sizes = {}
        seen = np.zeros_like(found)
        for y, x in np.argwhere(found):
            if not seen[y, x]:
                cells, stack = [], [(y, x)]
                seen[y, x] = True
                while stack:
                    cells.append(stack.pop())
                    cy, cx = cells[-1]
                    for ny in range(max(cy - 1, 0), min(cy + 2, 12)):
                        for nx in range(max(cx - 1, 0), min(cx + 2, 12)):
                            if found[ny, nx] and not seen[ny, nx]:
                                seen[ny, nx] = True
                                stack.append((ny, nx))
                sizes[(y, x)] = cells
        first = max(sizes, key=lambda place: len(sizes[place]))
        ys, xs = zip(*sizes[first], strict=True)
        assert box.tolist() == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


def test_a_constant_map_is_the_whole_image():
    map_ = normalised_map(np.full((4, 4), 0.3, np.float32), (16, 20))
    assert not map_.any()
    assert boxes_of_map(map_, np.array([0.0, 0.5])).tolist() == [[0, 0, 20, 16]] * 2


def test_the_threshold_is_strict():
    map_ = np.array([[0.25, 0.5, 0.25]], np.float32)
    assert boxes_of_map(map_, np.array([0.25, 0.5])).tolist() == [[1, 0, 2, 1], [0, 0, 3, 1]]


def test_the_official_maximum_is_over_thresholds_for_each_iou():
    iou = np.array([[0.4, 0.9], [0.6, 0.1], [0.4, 0.2]])
    assert max_box_accuracy(iou) == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)


def test_ignored_pixels_are_neither():
    rng = np.random.default_rng(1)
    scores, truth = rng.random((40, 50), np.float32), rng.integers(0, 2, (40, 50), dtype=np.uint8)
    ignored = truth.copy()
    ignored[:9] = 255
    plain = pixel_scores(score_histogram(scores[9:], truth[9:]))
    assert pixel_scores(score_histogram(scores, ignored)) == plain
    assert pixel_scores(score_histogram(scores, np.where(ignored == 255, 0, ignored))) != plain
    assert np.isnan(pixel_scores(score_histogram(scores, truth * 0))).all()
    perfect = pixel_scores(score_histogram(truth.astype(np.float32), truth))
    # the first bin that holds pixels has no step of recall before it
    assert perfect == (0, 1)


def test_objects_win_over_what_is_ignored():
    instances, ignored = mask((1, 1, 4, 4))[None], mask((2, 2, 6, 6))
    truth = object_mask(instances, ignored, (8, 9))
    assert (truth[mask((1, 1, 4, 4))] == 1).all()
    assert (truth[ignored & ~instances[0]] == 255).all() and (truth == 255).sum() == 12
