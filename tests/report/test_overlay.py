"""Pictures: the right pixels in the right colours."""

from __future__ import annotations

import numpy as np

from wsis.report.overlay import PALETTE, contact_sheet, overlay

GREY, WIDE = (np.full((*size, 3), 100, dtype=np.uint8) for size in ((20, 30), (60, 90)))


def test_tint_stays_inside_its_mask_and_the_image_is_not_changed():
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:15, 10:20] = True
    picture = overlay(GREY, [mask], opacity=0.5)
    assert np.array_equal(picture[8, 13], (100 + PALETTE[0].astype(int)) // 2)
    assert np.array_equal(picture[~mask], GREY[~mask])
    assert np.array_equal(picture[5, 10], PALETTE[0])  # contour
    assert (GREY == 100).all()


def test_boxes_are_drawn_on_the_pixels_that_they_touch():
    picture = overlay(GREY, boxes=[[10, 5, 20, 15], [0, 0, 30, 20]])
    for row, column in ((5, 10), (14, 19), (5, 19), (10, 10)):
        assert np.array_equal(picture[row, column], PALETTE[0])
    assert np.array_equal(picture[19, 29], PALETTE[1])
    assert np.array_equal(picture[4, 10], (100, 100, 100))


def test_ignored_pixels_are_hatched():
    ignore = np.zeros((20, 30), dtype=bool)
    ignore[:10] = True
    changed = (overlay(GREY, ignore=[ignore]) != GREY).any(axis=2)
    assert 0.2 < changed[:10].mean() < 0.5
    assert not changed[10:].any()


def test_enlargement():
    mask = np.zeros((20, 30), dtype=bool)
    mask[0, 0] = True
    picture = overlay(GREY, [mask], scale=3)
    assert picture.shape == (60, 90, 3)
    assert (picture != 100).any(axis=2).sum() == 9


def test_contact_sheet_holds_every_picture():
    red = np.zeros((10, 12, 3), dtype=np.uint8)
    red[..., 0] = 255
    sheet = contact_sheet([[red, GREY], [GREY, red]], ["one", "two"])
    assert sheet.shape[1] == 30 + 30 + 3 * 4
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == 2 * red.shape[0] * red.shape[1]
    assert (sheet == 100).all(axis=2).sum() >= 2 * 20 * 30


def test_labels_stand_above_their_boxes_and_inside_the_picture():
    boxes = [[20, 30, 60, 50], [80, 2, 90, 9]]
    plain = overlay(WIDE, boxes=boxes)
    labelled = overlay(WIDE, boxes=boxes, labels=["Käse 0.9", "b"])
    changed = (labelled != plain).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed[17:30, 20:40].all() and not changed[31:, :].any()
    assert rows.min() == 0 and columns.max() == 89
    assert np.array_equal(overlay(WIDE, boxes=boxes, labels=[]), plain)
    one, two = (overlay(WIDE, boxes=boxes[:1], labels=[text]) for text in ("a b", "a\nb"))
    assert np.array_equal(one, two), "a label of several lines is one"
