from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

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

needs_crf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="no CRF")
PARAMS = TopCRFParams()
SHARP = replace(PARAMS, blur_base=0.0, blur_slope=0.0)
SHAPE = (40, 50)
BOX = (slice(10, 20), slice(5, 25))
SMALL = (slice(10, 14), slice(5, 10))


def ramp():
    """1 to 2000, growing in reading order."""
    return np.arange(1.0, 2001.0, dtype=np.float32).reshape(SHAPE)


@pytest.mark.parametrize(("threshold", "saturated"), [(0.85, 31), (0.2, 161)])
def test_the_top_share_of_the_box_saturates(threshold, saturated):
    prior = prior_from_map(ramp(), BOX, threshold, SHARP)
    assert np.count_nonzero(prior > 1 - 1e-6) == saturated  # value at rank int(A (1 - t)) included
    outside = np.ones(SHAPE, dtype=bool)
    outside[BOX] = False
    assert prior[outside].max() == 0 and prior.dtype == np.float32


def test_is_wider_for_larger_boxes_and_normalised_after_the_blur():
    params = replace(PARAMS, blur_base=1.0, blur_slope=4.0)
    point = np.zeros(SHAPE, dtype=np.float32)
    point[15, 15] = 1
    whole = (slice(0, 40), slice(0, 50))
    small, large = (prior_from_map(point, box, 1.0, params) for box in (BOX, whole))
    assert small.max() == large.max() == 1 and small.argmax() == large.argmax() == 15 * 50 + 15
    assert (small > 0.2).sum() < (large > 0.2).sum()


@pytest.mark.parametrize(
    "box",
    [
        (slice(3, 3), slice(0, 5)),  # no area
        (slice(30, 40), slice(0, 5)),  # the map is 0 there
    ],
)
def test_nothing_to_go_by(box):
    attribution = np.zeros(SHAPE, dtype=np.float32)
    attribution[BOX] = 1
    assert prior_from_map(attribution, box, 0.85, PARAMS) is None


@pytest.mark.parametrize(
    "box",
    [(slice(0, 40), slice(0, 50)), (slice(39, 40), slice(49, 50)), (slice(7, 8), slice(0, 50))],
)
@pytest.mark.parametrize("threshold", [0.85, 0.2, 0.0, 1.0])
def test_odd_boxes_give_finite_priors(box, threshold):
    for attribution in (ramp(), np.ones(SHAPE, dtype=np.float32)):
        prior = prior_from_map(attribution, box, threshold, PARAMS)
        assert np.isfinite(prior).all() and prior.max() == 1 and prior.min() >= 0


def test_a_map_that_is_0_on_most_of_the_box_is_finite():
    attribution = np.zeros(SHAPE, dtype=np.float32)
    attribution[12, 8] = 1e-3
    prior = prior_from_map(attribution, BOX, 0.2, SHARP)
    assert np.isfinite(prior).all() and np.count_nonzero(prior) == 1


class Scripted:
    """A CRF that marks so many pixels of its input's box, call by call."""

    def __init__(self, *counts):
        self.counts, self.inputs = list(counts), []

    def __call__(self, prior):
        self.inputs.append(prior.copy())
        out = np.zeros(prior.size, dtype=np.float32)
        out[: self.counts.pop(0)] = 0.95
        return out.reshape(prior.shape)


def refined(counts, box=SMALL):
    prior = np.zeros(SHAPE, dtype=np.float32)
    prior[box] = 0.5
    crf = Scripted(*counts)
    mask = refine_prior(prior, box, crf, PARAMS)
    assert crf.counts == []
    return int(mask.sum()), crf.inputs


def test_a_mask_above_a_fifth_of_the_box_is_taken():
    assert refined([5])[0] == 5  # of 20 pixels


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        ([4, 7], 7),  # not above a fifth; above a third
        ([4, 6, 5, 8], 8),
        ([0, 6, 6, 6, 6, 3], 3),  # never: the last one
        ([3, 0, 0, 0, 0, 7], 7),
    ],
)
def test_stronger_priors_until_a_third(counts, size):
    found, inputs = refined(counts)
    assert found == size
    for prior, value in zip(inputs[1:], (0.7, 0.8, 0.9, 0.95, 0.96), strict=False):
        expected = np.zeros(SHAPE)
        expected[SMALL] = value
        expected.flat[: counts[0]] = 1  # what the first CRF kept
        np.testing.assert_allclose(prior, expected, atol=1e-6)


def test_a_large_box_is_taken_as_it_is():
    large = (slice(0, 20), slice(0, 11))  # 220 of 2000 pixels
    assert refined([0], large)[0] == 0
    assert refined([0, 100], (slice(0, 20), slice(0, 10)))[0] == 100  # 200 are not above a tenth


def test_without_a_map_the_priors_are_tried_in_turn():
    crf = Scripted(0, 4, 5)
    assert mask_without_map(SHAPE, SMALL, crf, PARAMS).sum() == 5
    assert [float(prior.max()) for prior in crf.inputs] == pytest.approx([0.7, 0.8, 0.9])
    assert all((prior > 0).sum() == 20 and (prior[SMALL] > 0).all() for prior in crf.inputs)
    assert mask_without_map(SHAPE, SMALL, Scripted(4, 4, 4, 4), PARAMS) is None


def test_status_says_what_a_mask_is_made_from():
    def made(attribution, *counts):
        return box_masks(SHAPE, SMALL, attribution, Scripted(*counts), PARAMS)

    both = made(ramp(), 5, 9)
    assert (both.status, both.foreground.sum(), both.region.sum()) == ("ok", 5, 9)
    missing = made(None, 3, 8)
    assert (missing.status, missing.foreground.sum()) == ("fallback", 8)
    assert missing.region is missing.foreground
    nothing = made(None, 0, 0, 0, 0)
    assert nothing.status == "empty" and not nothing.foreground.any() and not nothing.region.any()
    assert made(np.zeros(SHAPE, np.float32), 9).status == "fallback"  # 0 all over the box
    assert made(ramp(), 0, 0, 0, 0, 0, 0, 9).status == "empty"
    no_area = (slice(4, 4), slice(2, 9))
    flat = box_masks(SHAPE, no_area, ramp(), Scripted(0, 0, 0, 0), PARAMS)
    assert flat.status == "empty"


def scene():
    """Two bright squares on dark ground, mildly noisy."""
    image = np.random.default_rng(0).integers(0, 6, (*SHAPE, 3), dtype=np.uint8)
    image[10:20, 5:15] += 200
    image[22:36, 28:44] += 120
    return image


CRF = replace(PARAMS, blur_base=4.0, blur_slope=4.0, crf=DenseCRFParams(3, 1, 4, 20, 3, 10))
FIRST, SECOND = (slice(8, 22), slice(3, 17)), (slice(20, 38), slice(26, 46))


def peak(row, column):
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    distance = (rows - row) ** 2 + (columns - column) ** 2
    return np.exp(-distance / 50).astype(np.float32)


@needs_crf
def test_finds_the_objects_and_builds_one_crf(monkeypatch):
    built = []
    real = module.DenseCRF

    def counting(*args, **kwargs):
        built.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "DenseCRF", counting)
    found = list(top_crf(scene(), [FIRST, SECOND], [peak(14, 9), peak(28, 35)], CRF))
    assert len(built) == 1 and [masks.status for masks in found] == ["ok", "ok"]
    truth = np.zeros((2, *SHAPE), dtype=bool)
    truth[0, 10:20, 5:15] = truth[1, 22:36, 28:44] = True
    for masks, inside in zip(found, truth, strict=True):
        assert (masks.region & inside).sum() / (masks.region | inside).sum() > 0.9
        assert (masks.foreground & ~inside).sum() < 0.05 * inside.sum()


@needs_crf
def test_a_box_without_mask_leaves_the_others_theirs():
    never = replace(CRF, missing_priors=(0.01,))
    maps = [None, peak(28, 35), peak(14, 9)]
    found = list(top_crf(scene(), [FIRST, SECOND, FIRST], maps, never))
    assert [masks.status for masks in found] == ["empty", "ok", "ok"]
    alone = [
        next(top_crf(scene(), [b], [m], never)) for b, m in ((SECOND, maps[1]), (FIRST, maps[2]))
    ]
    for masks, expected in zip(found[1:], alone, strict=True):
        np.testing.assert_array_equal(masks.foreground, expected.foreground)
        np.testing.assert_array_equal(masks.region, expected.region)


def test_an_image_without_boxes_needs_no_crf(monkeypatch):
    monkeypatch.delattr(module, "DenseCRF")
    assert list(top_crf(scene(), [], [], CRF)) == []


def test_a_prior_range_trusts_the_box():
    params = replace(PARAMS, prior_range=(0.4, 0.8))
    prior = prior_from_map(ramp(), BOX, 0.5, params)
    assert prior[BOX].min() >= 0.4
    assert prior[BOX].max() == pytest.approx(0.8)
    outside = prior.copy()
    outside[BOX] = 0
    assert not outside.any()
    published = prior_from_map(ramp(), BOX, 0.5, PARAMS)
    assert prior[BOX] == pytest.approx(0.4 + 0.4 * published[BOX])


@needs_crf
def test_a_window_gives_the_masks_of_its_part_of_the_image():
    params = replace(CRF, window=2.0)
    image, shape = scene(), scene().shape[:2]
    maps = [peak(14, 9), peak(28, 35)]
    for box, attribution, made in zip(
        (FIRST, SECOND), maps, top_crf(image, [FIRST, SECOND], maps, params), strict=True
    ):
        edges = np.array([box[1].start, box[0].start, box[1].stop, box[0].stop])
        rows, columns = window_around(edges, 2.0, *shape)
        inner = tuple(
            slice(a.start - b.start, a.stop - b.start)
            for a, b in zip(box, (rows, columns), strict=True)
        )
        view = np.ascontiguousarray(image[rows, columns])
        alone = box_masks(
            view.shape[:2],
            inner,
            attribution[rows, columns],
            foreground_crf(view, params.crf),
            params,
            shape[0] * shape[1],
        )
        assert made.status == alone.status
        assert made.foreground.any()
        assert np.array_equal(made.foreground[rows, columns], alone.foreground)
        assert made.foreground.sum() == alone.foreground.sum()
        assert np.array_equal(made.region[rows, columns], alone.region)
