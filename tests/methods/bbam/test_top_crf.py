from dataclasses import replace

import numpy as np
import pytest

from tests.masks import needs_crf, overlap
from wsis.errors import ConfigError
from wsis.layers.box_shapes import centred
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bbam import top_crf as module
from wsis.methods.bbam.top_crf import (
    TopCRFParams,
    box_masks,
    foreground_crf,
    mask_without_map,
    prior_from_map,
    refine_prior,
    top_crf,
)
from wsis.structures.boxes import window_around

PARAMS = TopCRFParams()
SHARP = replace(PARAMS, blur_base=0.0, blur_slope=0.0)
SHAPE = (40, 50)
WHOLE = (slice(0, 40), slice(0, 50))
BOX = (slice(10, 20), slice(5, 25))
SMALL = (slice(10, 14), slice(5, 10))
RAMP = np.arange(1.0, 2001.0, dtype=np.float32).reshape(SHAPE)
"""Growing in reading order."""


def filled(box, value, background=0.0):
    out = np.full(SHAPE, background, dtype=np.float32)
    out[box] = value
    return out


@pytest.mark.parametrize(("threshold", "saturated"), [(0.85, 31), (0.2, 161)])
def test_the_top_share_of_the_box_saturates(threshold, saturated):
    prior = prior_from_map(RAMP, BOX, threshold, SHARP)
    assert np.count_nonzero(prior > 1 - 1e-6) == saturated  # value at rank int(A (1 - t)) included
    assert prior.dtype == np.float32
    prior[BOX] = 0
    assert not prior.any()


def test_is_wider_for_larger_boxes_and_normalised_after_the_blur():
    params = replace(PARAMS, blur_base=1.0, blur_slope=4.0)
    point = filled((15, 15), 1)
    small, large = (prior_from_map(point, box, 1.0, params) for box in (BOX, WHOLE))
    assert small.max() == large.max() == 1 and small.argmax() == large.argmax() == 15 * 50 + 15
    assert (small > 0.2).sum() < (large > 0.2).sum()


@pytest.mark.parametrize("box", [(slice(3, 3), slice(0, 5)), (slice(30, 40), slice(0, 5))])
def test_nothing_to_go_by(box):  # no area; the map is 0 there
    assert prior_from_map(filled(BOX, 1), box, 0.85, PARAMS) is None


@pytest.mark.parametrize(
    "box", [WHOLE, (slice(39, 40), slice(49, 50)), (slice(7, 8), slice(0, 50))]
)
@pytest.mark.parametrize("threshold", [0.85, 0.2, 0.0, 1.0])
def test_odd_boxes_give_finite_priors(box, threshold):
    for attribution in (RAMP, np.ones(SHAPE, dtype=np.float32)):
        prior = prior_from_map(attribution, box, threshold, PARAMS)
        assert np.isfinite(prior).all() and prior.max() == 1 and prior.min() >= 0
    # a map that is 0 on most of the box
    prior = prior_from_map(filled((12, 8), 1e-3), BOX, 0.2, SHARP)
    assert np.isfinite(prior).all() and np.count_nonzero(prior) == 1


def test_a_prior_range_trusts_the_box():
    prior = prior_from_map(RAMP, BOX, 0.5, replace(PARAMS, prior_range=(0.4, 0.8)))
    assert prior[BOX].min() >= 0.4 and prior[BOX].max() == pytest.approx(0.8)
    published = prior_from_map(RAMP, BOX, 0.5, PARAMS)
    assert prior[BOX] == pytest.approx(0.4 + 0.4 * published[BOX])
    prior[BOX] = 0
    assert not prior.any()


def test_a_centre_weight_is_a_second_prior():
    params = replace(PARAMS, prior_range=(0.4, 0.8))
    plain = prior_from_map(RAMP, BOX, 0.5, params)
    raised = prior_from_map(RAMP, BOX, 0.5, replace(params, centre_weight=0.5))
    np.testing.assert_array_equal(raised[BOX], centred(plain[BOX], 0.5))
    assert (raised == 0).sum() == (plain == 0).sum() > 0


class Scripted:
    """A CRF that marks so many pixels of its input, call by call."""

    def __init__(self, *counts):
        self.counts, self.inputs = list(counts), []

    def __call__(self, prior):
        self.inputs.append(prior.copy())
        out = np.zeros(prior.size, dtype=np.float32)
        out[: self.counts.pop(0)] = 0.95
        return out.reshape(prior.shape)


@pytest.mark.parametrize(
    ("counts", "box", "size"),
    [
        ([5], SMALL, 5),  # above a fifth of 20 pixels
        ([4, 7], SMALL, 7),  # not above a fifth; above a third
        ([4, 6, 5, 8], SMALL, 8),
        ([0, 6, 6, 6, 6, 3], SMALL, 3),  # never: the last one
        ([3, 0, 0, 0, 0, 7], SMALL, 7),
        ([0], (slice(0, 20), slice(0, 11)), 0),  # 220 of 2000 pixels: large, taken as it is
        ([0, 100], (slice(0, 20), slice(0, 10)), 100),  # 200 are not above a tenth
    ],
)
def test_stronger_priors_until_a_third(counts, box, size):
    crf = Scripted(*counts)
    assert refine_prior(filled(box, 0.5), box, crf, PARAMS).sum() == size
    assert crf.counts == []
    for prior, value in zip(crf.inputs[1:], (0.7, 0.8, 0.9, 0.95, 0.96), strict=False):
        expected = filled(box, value)
        expected.flat[: counts[0]] = 1  # what the first CRF kept
        np.testing.assert_allclose(prior, expected, atol=1e-6)


def test_without_a_map_the_priors_are_tried_in_turn():
    crf = Scripted(0, 4, 5)
    assert mask_without_map(SHAPE, SMALL, crf, PARAMS).sum() == 5
    assert [float(prior.max()) for prior in crf.inputs] == pytest.approx([0.7, 0.8, 0.9])
    assert all((prior > 0).sum() == 20 and (prior[SMALL] > 0).all() for prior in crf.inputs)
    assert mask_without_map(SHAPE, SMALL, Scripted(4, 4, 4, 4), PARAMS) is None


@pytest.mark.parametrize(
    ("attribution", "box", "counts", "status", "foreground", "region"),
    [
        (RAMP, SMALL, [5, 9], "ok", 5, 9),
        (None, SMALL, [3, 8], "fallback", 8, 8),
        (None, SMALL, [0, 0, 0, 0], "empty", 0, 0),
        (np.zeros(SHAPE, np.float32), SMALL, [9], "fallback", 9, 9),  # 0 all over the box
        (RAMP, SMALL, [0, 0, 0, 0, 0, 0, 9], "empty", 0, 9),
        (RAMP, (slice(4, 4), slice(2, 9)), [0, 0, 0, 0], "empty", 0, 0),  # no area
    ],
)
def test_status_says_what_a_mask_is_made_from(attribution, box, counts, status, foreground, region):
    made = box_masks(SHAPE, box, attribution, Scripted(*counts), PARAMS)
    assert (made.status, made.foreground.sum(), made.region.sum()) == (status, foreground, region)
    assert (made.region is made.foreground) == (attribution is not RAMP or box is not SMALL)


CRF = replace(PARAMS, blur_base=4.0, blur_slope=4.0, crf=DenseCRFParams(3, 1, 4, 20, 3, 10))
FIRST, SECOND = (slice(8, 22), slice(3, 17)), (slice(20, 38), slice(26, 46))
OBJECTS = (slice(10, 20), slice(5, 15)), (slice(22, 36), slice(28, 44))


def peak(row, column):
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 50).astype(np.float32)


PEAKS = peak(14, 9), peak(28, 35)


@pytest.fixture
def scene():
    """Two bright squares on dark ground, mildly noisy."""
    image = np.random.default_rng(0).integers(0, 6, (*SHAPE, 3), dtype=np.uint8)
    for place, brightness in zip(OBJECTS, (200, 120), strict=True):
        image[place] += brightness
    return image


@needs_crf
def test_finds_the_objects_and_builds_one_crf(monkeypatch, scene):
    built, real = [], module.DenseCRF
    monkeypatch.setattr(module, "DenseCRF", lambda *a, **k: built.append(1) or real(*a, **k))
    assert list(top_crf(scene, [], [], CRF)) == built == []
    found = list(top_crf(scene, [FIRST, SECOND], PEAKS, CRF))
    assert len(built) == 1 and [masks.status for masks in found] == ["ok", "ok"]
    for masks, place in zip(found, OBJECTS, strict=True):
        inside = filled(place, 1) > 0
        assert overlap(masks.region, inside) > 0.9
        assert (masks.foreground & ~inside).sum() < 0.05 * inside.sum()


@needs_crf
def test_a_box_without_mask_leaves_the_others_theirs(scene):
    never = replace(CRF, missing_priors=(0.01,))
    found = list(top_crf(scene, [FIRST, SECOND, FIRST], [None, PEAKS[1], PEAKS[0]], never))
    assert [masks.status for masks in found] == ["empty", "ok", "ok"]
    for masks, box, attribution in zip(found[1:], (SECOND, FIRST), PEAKS[::-1], strict=True):
        (alone,) = top_crf(scene, [box], [attribution], never)
        np.testing.assert_array_equal(masks.foreground, alone.foreground)
        np.testing.assert_array_equal(masks.region, alone.region)


@needs_crf
def test_a_window_gives_the_masks_of_its_part_of_the_image(scene):
    boxes, params = (FIRST, SECOND), replace(CRF, window=2.0)
    for box, attribution, made in zip(
        boxes, PEAKS, top_crf(scene, boxes, PEAKS, params), strict=True
    ):
        edges = np.array([box[1].start, box[0].start, box[1].stop, box[0].stop])
        window = window_around(edges, 2.0, *SHAPE)
        pairs = zip(box, window, strict=True)
        inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in pairs)
        view = np.ascontiguousarray(scene[window])
        how = foreground_crf(view, params.crf), params, scene.shape[0] * scene.shape[1]
        alone = box_masks(view.shape[:2], inner, attribution[window], *how)
        assert made.status == alone.status and made.foreground.any()
        assert np.array_equal(made.foreground[window], alone.foreground)
        assert made.foreground.sum() == alone.foreground.sum()
        assert np.array_equal(made.region[window], alone.region)


@needs_crf
@pytest.mark.parametrize("scale", [1, 3, 8])
def test_a_box_is_seen_at_one_size_whatever_its_own(scale, scene):
    params = replace(CRF, window=1.5, box_side=28.0, prior_range=(0.3, 0.8), marginal=0.5)

    def grown(values):
        return values.repeat(scale, axis=0).repeat(scale, axis=1)

    box = tuple(slice(part.start * scale, part.stop * scale) for part in FIRST)
    (made,) = top_crf(grown(scene), [box], [grown(PEAKS[0])], params)
    assert made.status == "ok" and overlap(made.foreground, grown(filled(OBJECTS[0], 1) > 0)) > 0.9


def test_a_size_needs_a_window():
    with pytest.raises(ConfigError, match=r"TOP_CRF.BOX_SIDE: found 48.0, .*WINDOW"):
        replace(PARAMS, box_side=48.0)
