"""Crops around the masks of salient images."""

import cv2
import numpy as np
import pytest

from tests.masks import rectangle
from tests.methods.boxcaseg.tiny import make_cfg
from wsis.methods.boxcaseg.samples import (
    BoxImage,
    SalientImage,
    SampleParams,
    box_samples,
    sample_params,
    whole_sample,
)
from wsis.structures.rle import encode_mask

SHAPE = (60, 80)


@pytest.fixture
def image(tmp_path):
    """A bright L on dark ground, its tight box 12 x 24 at column 50, row 20."""
    mask = rectangle(SHAPE, 50, 20, 54, 44) | rectangle(SHAPE, 50, 40, 62, 44)
    path = str(tmp_path / "x.png")
    cv2.imwrite(path, np.where(mask, 200, 20).astype(np.uint8))
    return SalientImage(path, *SHAPE, (encode_mask(mask),))


def sample(image, scale=(1.0, 1.0), shift=0.0, seed=0):
    params = SampleParams(32, 36, shift, scale, "unified", salient_crop="box")
    return whole_sample(image, np.random.default_rng(seed), params)


def test_the_mask_fills_a_still_crop(image):
    made = [sample(image, seed=seed) for seed in range(8)]
    for each in made:
        label = each.labels[0, 0].astype(bool)
        assert each.salient
        for axis in (0, 1):
            assert label.any(axis=axis).all(), "a tight box: every row and column meets it"
        assert label[:, 0].all() and not label[16, 16]
        bright = each.images[0, 0] > each.images[0, 0].mean()
        assert (bright == label).mean() > 0.9, "image and mask go together"
    assert {bool(each.labels[0, 0, 0, -1]) for each in made} == {True, False}, "both ways up"


@pytest.mark.parametrize(
    ("turn", "salient", "boxes"), [("rows", {1, 3}, {1}), ("columns", {0, 1}, {0, 1})]
)
def test_samples_are_turned_half_of_the_time(image, turn, salient, boxes):
    params = SampleParams(32, 36, 0, (1, 1), "unified", salient_crop="box", turn=turn)
    box = BoxImage(image.file_name, *SHAPE, np.array([[50.0, 20, 62, 44]]))

    def dark_corners(make):  # of the L it is the upper right one, number 1
        made = [make(np.random.default_rng(seed)) for seed in range(12)]
        return {int(m.images[0, 0][[0, 0, -1, -1], [0, -1, 0, -1]].argmin()) for m in made}

    assert dark_corners(lambda rng: whole_sample(image, rng, params)) == salient
    assert dark_corners(lambda rng: box_samples(box, [0], [rng], params)) == boxes
    masks = [whole_sample(image, np.random.default_rng(seed), params) for seed in range(12)]
    for each in masks:
        bright = each.images[0, 0] > each.images[0, 0].mean()
        assert (bright == each.labels[0, 0]).mean() > 0.9, "image and mask go together"


def test_jitter_is_that_of_boxes(image):
    wide = sample(image, scale=(1.5, 1.5)).labels[0, 0].astype(bool)
    rows, columns = wide.any(axis=1), wide.any(axis=0)
    assert not rows[[0, -1]].any() and not columns[[0, -1]].any()
    assert rows.mean() == pytest.approx(2 / 3, abs=0.1)
    shares = {float(sample(image, (0.5, 1.5), 0.25, seed).labels.mean()) for seed in range(6)}
    assert len(shares) > 3


def test_an_empty_mask_leaves_the_whole_image_and_the_key_decides(image):
    empty = encode_mask(rectangle(SHAPE, 0, 0, 0, 0))
    made = sample(SalientImage(image.file_name, *SHAPE, (empty,)))
    assert not made.labels.any() and made.images.std() > 0.1
    keys = ("MODEL.BOXCASEG.SALIENT_CROP", "box")
    made = [sample_params(make_cfg(*opts)).salient_crop for opts in ((), keys)]
    assert made == ["image", "box"]
