"""Crops around the masks of salient images."""

import cv2
import numpy as np
import pytest

from tests.methods.boxcaseg.tiny import make_cfg
from wsis.methods.boxcaseg.samples import SalientImage, SampleParams, sample_params, whole_sample
from wsis.structures.rle import encode_mask

HEIGHT, WIDTH = 60, 80


@pytest.fixture
def image(tmp_path):
    """A bright L on dark ground, its tight box 12 x 24 at column 50, row 20."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[20:44, 50:54] = mask[40:44, 50:62] = True
    path = str(tmp_path / "x.png")
    cv2.imwrite(path, np.where(mask, 200, 20).astype(np.uint8))
    return SalientImage(path, HEIGHT, WIDTH, (encode_mask(mask),))


def sample(image, scale=(1.0, 1.0), shift=0.0, seed=0):
    params = SampleParams(32, 36, shift, scale, "unified", salient_crop="box")
    return whole_sample(image, np.random.default_rng(seed), params)


def test_the_mask_fills_a_still_crop(image):
    seeds = range(8)
    made = [sample(image, seed=seed) for seed in seeds]
    for each in made:
        label = each.labels[0, 0].astype(bool)
        assert each.salient
        for lines in (label.any(axis=0), label.any(axis=1)):
            assert lines.all(), "a tight box: every row and column meets it"
        assert label[:, 0].all() and not label[16, 16]
        bright = each.images[0, 0] > each.images[0, 0].mean()
        assert (bright == label).mean() > 0.9, "image and mask go together"
    assert {bool(each.labels[0, 0, 0, -1]) for each in made} == {True, False}, "both ways up"


def test_jitter_is_that_of_boxes(image):
    wide = sample(image, scale=(1.5, 1.5)).labels[0, 0].astype(bool)
    rows, columns = wide.any(axis=1), wide.any(axis=0)
    assert not rows[[0, -1]].any() and not columns[[0, -1]].any()
    assert rows.mean() == pytest.approx(2 / 3, abs=0.1)
    shares = {float(sample(image, (0.5, 1.5), 0.25, seed).labels.mean()) for seed in range(6)}
    assert len(shares) > 3


def test_an_empty_mask_leaves_the_whole_image(image):
    empty = encode_mask(np.zeros((HEIGHT, WIDTH), dtype=bool))
    made = sample(SalientImage(image.file_name, HEIGHT, WIDTH, (empty,)))
    assert not made.labels.any() and made.images.std() > 0.1


def test_the_key(image):
    assert sample_params(make_cfg()).salient_crop == "image"
    params = sample_params(make_cfg("MODEL.BOXCASEG.SALIENT_CROP", "box"))
    assert params.salient_crop == "box"
