"""Outlines on the edges of the colours: coarse masks of a disc, flat images, thresholds, odd boxes."""

import numpy as np
import pytest

from wsis.layers.window_crf import WindowCRFParams, refined_in_window

pytest.importorskip("pydensecrf")
ROWS, COLUMNS = np.mgrid[:80, :100]
DISC = (ROWS - 40) ** 2 + (COLUMNS - 50) ** 2 < 20**2
DISC_BOX = np.array([30.0, 20, 70, 60])
PARAMS = WindowCRFParams(refine=True)


def refined(image, box, probability, threshold=0.5):
    """The mask (H, W) of a probability (H, W), and the probability's crop on the box."""
    x0, y0, x1, y1 = np.asarray(box).astype(int)
    crop = probability[y0:y1, x0:x1].astype(np.float32), x0, y0
    mask, left, top = refined_in_window(image, np.asarray(box), crop, threshold, PARAMS)
    out = np.zeros(image.shape[:2], dtype=bool)
    out[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return out


def iou(a, b):
    """Of two masks."""
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("shift", [-2, 2])
def test_a_coarse_mask_ends_where_the_colour_does(shift):
    image = np.where(DISC[..., None], (200, 40, 40), (60, 120, 60)).astype(np.uint8)
    coarse = np.roll(DISC, shift, axis=1)[::4, ::4].repeat(4, axis=0).repeat(4, axis=1)
    made = refined(image, DISC_BOX, coarse)
    assert iou(made, DISC) > iou(coarse, DISC) + 0.08


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_without_colours_a_sure_mask_stays_and_one_below_the_threshold_goes(threshold):
    flat = np.full((80, 100, 3), 90, np.uint8)
    assert iou(refined(flat, DISC_BOX, np.where(DISC, 0.99, 0.01), threshold), DISC) > 0.95
    assert not refined(flat, DISC_BOX, np.where(DISC, threshold - 0.1, 0.01), threshold).any()


@pytest.mark.parametrize(
    "box", [[0, 0, 1, 1], [99, 79, 100, 80], [90, 0, 100, 80], [0, 0, 100, 80]]
)
def test_a_sure_mask_of_an_odd_box_fills_it_and_no_more(box):
    x0, y0, x1, y1 = box
    expected = np.zeros((80, 100), dtype=bool)
    expected[y0:y1, x0:x1] = True
    image = np.where(expected[..., None], 200, 20).repeat(3, axis=2).astype(np.uint8)
    assert np.array_equal(refined(image, np.array(box, float), np.ones((80, 100))), expected)
