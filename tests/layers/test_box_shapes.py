from __future__ import annotations

import numpy as np
import pytest

from wsis.layers.box_maps import BoxMapParams
from wsis.layers.box_shapes import StandInParams, centred, inscribed_ellipse
from wsis.layers.label_to_masks import image_boxes, masks_from_label
from wsis.methods.bas.box_refiner import MAPS, WINDOWS, BASBoxRefiner
from wsis.structures import Seed
from wsis.structures.rle import decode_mask

BOX = (2, 3, 12, 13)  # of 100 pixels


def seed() -> Seed:
    return Seed(1, "a.png", 20, 20, np.array([BOX], np.float32), np.zeros(1, np.int64), (7,))


@pytest.mark.parametrize(
    ("pixels", "share", "stands_in"),
    [(24, 0.25, True), (25, 0.25, False), (0, 0.25, True), (0, 0.0, False), (1, 0.0, False)],
)
def test_an_ellipse_stands_in_for_what_covers_too_little(pixels, share, stands_in):
    given = seed()
    mask = np.zeros((10, 10), dtype=bool)
    mask.flat[:pixels] = True
    crops, status = StandInParams(share).apply(given, [(mask, 2, 3)], ["ok"])
    expected = inscribed_ellipse(np.array(BOX), 20, 20) if stands_in else (mask, 2, 3)
    np.testing.assert_array_equal(crops[0][0], expected[0])
    assert crops[0][1:] == expected[1:] and status == ["fallback" if stands_in else "ok"]


def test_labels_without_a_box_become_ellipses_or_whole():
    given = seed()
    empty = np.zeros((20, 20), dtype=np.uint8)
    boxes = image_boxes(given)
    for params, area in ((StandInParams(), 100), (StandInParams(0.25), 80)):
        made = masks_from_label(given, boxes, empty, params)
        assert decode_mask(made.masks[0]).sum() == area and made.status == ["fallback"]


def test_a_map_of_a_spot_is_a_failure():
    given = seed()
    map_ = np.zeros((10, 10), dtype=np.float32)
    map_[4:6, 4:6] = 1
    given.maps = {MAPS: [map_], WINDOWS: [np.array(BOX)]}
    for share, area in ((0.0, 4), (0.25, 80)):
        params = BoxMapParams(0.5, stand_in=StandInParams(share))
        made = BASBoxRefiner(params)(given, np.zeros((20, 20, 3), np.uint8))
        assert decode_mask(made.masks[0]).sum() == area


def test_a_prior_that_believes_the_middle():
    flat = np.full((60, 100), 0.6, dtype=np.float32)
    odds = np.log(centred(flat, 0.5) / (1 - centred(flat, 0.5))) - np.log(0.6 / 0.4)
    assert odds.mean() == pytest.approx(0, abs=1e-4), "as much foreground on the whole"
    assert odds[30, 50] == pytest.approx(0.5 * 2 / 3, abs=1e-3)
    assert odds[0, 0] == pytest.approx(0.5 * (2 / 3 - 2), abs=0.03)
    assert odds[30, 0] == pytest.approx(0.5 * (2 / 3 - 1), abs=0.02), "on the inscribed ellipse"
    assert centred(flat, 0.0) is flat and centred(flat, 0.5).dtype == np.float32
    known = np.array([[0, 1], [1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(centred(known, 2.0), known)
    assert centred(np.zeros((0, 3), np.float32), 1.0).shape == (0, 3)
