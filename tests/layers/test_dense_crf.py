import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest

from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRF, DenseCRFParams, dense_crf

needs_crf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="no CRF")
PARAMS = DenseCRFParams(3.0, 1.0, 4.0, 20.0, 3.0, iterations=5)
UNARY_ONLY = DenseCRFParams(0.0, 1.0, 0.0, 1.0, 1.0, iterations=1)


def two_halves(height=24, width=30):
    """Dark left, bright right, with mild noise; (1, 2, H, W)-like probabilities leaning that way."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4, (height, width, 3), dtype=np.uint8)
    image[:, width // 2 :] += 200
    right = rng.uniform(0.2, 0.5, (height, width)).astype(np.float32)
    right[:, width // 2 :] += 0.3
    return image, np.stack([1 - right, right])


@needs_crf
def test_follows_the_colour_edge():
    image, prob = two_halves()
    prob[:, 5, 3] = prob[::-1, 5, 3]  # one pixel on the wrong side
    labels = dense_crf(image, prob, PARAMS).argmax(axis=0)
    assert (labels[:, :15] == 0).all() and (labels[:, 15:] == 1).all()


@needs_crf
def test_without_pairwise_weight_the_clipped_unary_remains():
    image, _ = two_halves()
    prob = np.random.default_rng(1).random((3, 24, 30))
    prob[0, :4] = 0.0
    clipped = prob.clip(0.01, 1)
    marginals = dense_crf(image, prob, UNARY_ONLY, prob_floor=0.01)
    assert marginals.dtype == np.float32
    np.testing.assert_allclose(marginals, clipped / clipped.sum(axis=0), rtol=1e-5)


@needs_crf
def test_pairwise_terms_are_reused_without_a_trace():
    image, prob = two_halves()
    other = np.random.default_rng(2).dirichlet((1, 1), (24, 30)).transpose(2, 0, 1)
    crf = DenseCRF(image, PARAMS, num_labels=2)
    before = image.copy(), prob.copy()
    for given in (prob, other, prob):
        np.testing.assert_array_equal(crf.infer(given), dense_crf(image, given, PARAMS))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(prob, before[1])


@needs_crf
def test_one_model_serves_several_threads():
    image, _ = two_halves()
    maps = [
        np.random.default_rng(i).dirichlet((1, 1), (24, 30)).transpose(2, 0, 1) for i in range(8)
    ]
    crf = DenseCRF(image, PARAMS, num_labels=2)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(crf.infer, maps))
    for given, got in zip(maps, results, strict=True):
        np.testing.assert_array_equal(got, dense_crf(image, given, PARAMS))


@needs_crf
def test_views_and_tiny_inputs():
    image, prob = two_halves()
    np.testing.assert_array_equal(
        dense_crf(image[:, ::-1], prob[..., ::-1], PARAMS),
        dense_crf(image[:, ::-1].copy(), prob[..., ::-1].copy(), PARAMS),
    )
    one = dense_crf(image[:1, :1], prob[:1, :1, :1], PARAMS)
    np.testing.assert_allclose(one, np.ones((1, 1, 1)))


@needs_crf
@pytest.mark.parametrize(
    ("image", "prob"),
    [
        (np.zeros((4, 5, 3), np.float32), np.ones((2, 4, 5))),
        (np.zeros((4, 5), np.uint8), np.ones((2, 4, 5))),
        (np.zeros((0, 5, 3), np.uint8), np.ones((2, 0, 5))),
        (np.zeros((4, 5, 3), np.uint8), np.ones((2, 5, 4))),
        (np.zeros((4, 5, 3), np.uint8), np.ones((0, 4, 5))),
        (np.zeros((4, 5, 3), np.uint8), np.full((2, 4, 5), np.nan)),
    ],
)
def test_refuses_wrong_input(image, prob):
    with pytest.raises(ValueError):
        dense_crf(image, prob, PARAMS)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((-1.0, 1.0, 4.0, 20.0, 3.0, 5), "spatial_weight"),
        ((3.0, 0.0, 4.0, 20.0, 3.0, 5), "spatial_xy_std"),
        ((3.0, 1.0, float("nan"), 20.0, 3.0, 5), "bilateral_weight"),
        ((3.0, 1.0, 4.0, 20.0, float("inf"), 5), "bilateral_rgb_std"),
        ((3.0, 1.0, 4.0, 20.0, 3.0, 0), "iterations"),
    ],
)
def test_parameters_out_of_range_are_named(values, name):
    with pytest.raises(ConfigError, match=name):
        DenseCRFParams(*values)


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ConfigError, match=r"wsis\[crf\]"):
        dense_crf(np.zeros((4, 5, 3), np.uint8), np.ones((2, 4, 5)), PARAMS)
