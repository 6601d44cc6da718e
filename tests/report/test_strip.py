from __future__ import annotations

import numpy as np

from wsis.report.strip import difference_picture, heat_picture, label_picture, label_strip

GREY = np.full((12, 16, 3), 100, dtype=np.uint8)


def test_labels_have_vocs_colours_and_255_is_hatched() -> None:
    label = np.zeros((12, 16), dtype=np.uint8)
    label[:6, :8] = 1
    label[6:, 8:] = 255
    out = label_picture(GREY, label, opacity=1.0)
    assert (out[:6, :8] == (128, 0, 0)).all()
    assert (out[label == 0] == 100).all()
    hatched = (out[label == 255] == 255).all(axis=1)
    assert 0.2 < hatched.mean() < 0.5
    assert (out[label == 255][~hatched] == 100).all()


def test_only_what_differs_is_coloured() -> None:
    first, second = np.zeros((2, 12, 16), dtype=np.uint8)
    first[:4], second[2:8] = 2, 2
    out = difference_picture(GREY, first, second)
    assert (out[:2] == (0, 128, 0)).all() and (out[4:8] == 255).all()
    assert (out[2:4] == 128 + 25).all() and (out[8:] == 128 + 25).all()


def test_heat_rises_from_blue_to_yellow() -> None:
    low, high = heat_picture(np.array([[0.0, 1.0]]))[0].astype(int)
    assert low[2] > low[1] and high[0] > 200 and high[1] > 200 and high[2] < 100
    assert (heat_picture(np.array([[2.0]])) == heat_picture(np.array([[1.0]]))).all()


def test_a_strip_has_a_column_for_everything() -> None:
    labels = {name: np.full((12, 16), i, np.uint8) for i, name in enumerate(("a", "b", "c"))}
    strip = label_strip(GREY, [(1, 2, 9, 8)], labels, {"attention": np.ones((12, 16))}, height=24)
    columns, gap = 7, 4  # image, boxes, attention, a, b, disagreement, c
    assert strip.shape[1] == columns * 32 + (columns + 1) * gap
    alone = label_strip(GREY, [], {"a": labels["a"]}, height=5)
    assert alone.shape[1] == 3 * 16 + 4 * gap
