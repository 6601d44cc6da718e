import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.masks import needs_crf
from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRF, DenseCRFParams, dense_crf

PARAMS = DenseCRFParams(3.0, 1.0, 4.0, 20.0, 3.0, iterations=5)
UNARY_ONLY = DenseCRFParams(0.0, 1.0, 0.0, 1.0, 1.0, iterations=1)
BLACK = np.zeros((4, 5, 3), np.uint8)


@pytest.fixture
def halves():
    """Dark left, bright right, with mild noise; (2, H, W) probabilities leaning that way."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4, (24, 30, 3), dtype=np.uint8)
    image[:, 15:] += 200
    right = rng.uniform(0.2, 0.5, (24, 30)).astype(np.float32)
    right[:, 15:] += 0.3
    return image, np.stack([1 - right, right])


def random_map(seed):
    return np.random.default_rng(seed).dirichlet((1, 1), (24, 30)).transpose(2, 0, 1)


@needs_crf
def test_follows_the_colour_edge(halves):
    image, prob = halves
    prob[:, 5, 3] = prob[::-1, 5, 3]  # one pixel on the wrong side
    labels = dense_crf(image, prob, PARAMS).argmax(axis=0)
    assert (labels[:, :15] == 0).all() and (labels[:, 15:] == 1).all()


@needs_crf
def test_without_pairwise_weight_the_clipped_unary_remains(halves):
    prob = np.random.default_rng(1).random((3, 24, 30))
    prob[0, :4] = 0.0
    clipped = prob.clip(0.01, 1)
    marginals = dense_crf(halves[0], prob, UNARY_ONLY, prob_floor=0.01)
    assert marginals.dtype == np.float32
    np.testing.assert_allclose(marginals, clipped / clipped.sum(axis=0), rtol=1e-5)


@needs_crf
def test_pairwise_terms_are_reused_without_a_trace_by_several_threads(halves):
    image, prob = halves
    crf = DenseCRF(image, PARAMS, num_labels=2)
    before = image.copy(), prob.copy()
    maps = [prob, random_map(2), prob, *map(random_map, range(8))]
    with ThreadPoolExecutor(4) as pool:
        results = [crf.infer(given) for given in maps[:3]] + list(pool.map(crf.infer, maps[3:]))
    for given, got in zip(maps, results, strict=True):
        np.testing.assert_array_equal(got, dense_crf(image, given, PARAMS))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(prob, before[1])


@needs_crf
def test_views_and_tiny_inputs(halves):
    image, prob = halves
    turned = image[:, ::-1], prob[..., ::-1]
    copies = (array.copy() for array in turned)
    np.testing.assert_array_equal(dense_crf(*turned, PARAMS), dense_crf(*copies, PARAMS))
    one = dense_crf(image[:1, :1], prob[:1, :1, :1], PARAMS)
    np.testing.assert_allclose(one, np.ones((1, 1, 1)))


@needs_crf
@pytest.mark.parametrize(
    ("image", "prob"),
    [
        (BLACK.astype(np.float32), np.ones((2, 4, 5))),
        (BLACK[..., 0], np.ones((2, 4, 5))),
        (BLACK[:0], np.ones((2, 0, 5))),
        (BLACK, np.ones((2, 5, 4))),
        (BLACK, np.ones((0, 4, 5))),
        (BLACK, np.full((2, 4, 5), np.nan)),
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
    for name in ("pydensecrf", "pydensecrf.densecrf"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"wsis\[crf\]"):
        dense_crf(BLACK, np.ones((2, 4, 5)), PARAMS)
