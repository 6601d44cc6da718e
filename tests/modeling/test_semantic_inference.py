"""Protocols of semantic inference: averaged scores, then T, then probabilities, then a CRF."""

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.masks import needs_crf
from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.modeling.semantic_inference import (
    PROTOCOLS,
    CRFLabels,
    ProtocolParams,
    label_image,
    multi_scale,
    single_scale,
)

CRF = DenseCRFParams(3.0, 3.0, 4.0, 30.0, 10.0, 5)
SIZE = (31, 45)
IMAGE = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(2))
RGB = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture
def conv():
    return torch.nn.Conv2d(3, 4, 3, stride=2, padding=1).requires_grad_(False)


def resized(x, size):
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)


def test_eight_passes_are_averaged_before_anything_else(conv):
    size, scales, plain = (20, 30), (1.0, 0.5, 1.5), []
    for scale in scales:
        y = resized(IMAGE[None], (int(31 * scale), int(45 * scale)))
        plain += [resized(scores, size) for scores in (conv(y), conv(y.flip(-1)).flip(-1))]
    got = multi_scale(conv, IMAGE, size, scales)
    torch.testing.assert_close(got, torch.stack(plain).mean(0)[0])
    mean_of_softmax = torch.stack([(20 * p).softmax(1) for p in plain]).mean(0)[0]
    assert ((20 * got).softmax(0) - mean_of_softmax).abs().max() > 0.01


def test_mirror_images_share_a_forward_pass(conv):
    batches = []
    multi_scale(lambda x: batches.append(x.shape) or conv(x), IMAGE, SIZE, (1.0, 0.01))
    assert [tuple(shape) for shape in batches] == [(2, 3, *SIZE), (2, 3, 1, 1)]


@pytest.mark.parametrize("protocols", [PROTOCOLS, ("multi", "single")])
def test_every_protocol_by_name_and_the_first_one_gives_the_scores(conv, protocols):
    original = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    params = ProtocolParams(protocols, scales=(1.0, 0.5), temperature=20.0, crf=CRF)
    scores, labels = label_image(conv, IMAGE, SIZE, params, original)
    assert list(labels) == list(protocols)
    expected = {"single": single_scale(conv, IMAGE, SIZE)}
    expected["multi"] = multi_scale(conv, IMAGE, SIZE, (1.0, 0.5))
    torch.testing.assert_close(scores, (20 * expected[protocols[0]]).softmax(0))
    for name, value in expected.items():
        assert torch.equal(labels[name], value.argmax(0).to(torch.uint8))
    assert all(isinstance(labels[name], CRFLabels) for name in labels if name.endswith("_crf"))


def test_a_crf_needs_the_image(conv):
    with pytest.raises(ValueError, match="original image"):
        label_image(conv, IMAGE, SIZE, ProtocolParams(("single_crf",)))


def smooth_scores(classes):
    low = torch.randn(1, classes, 4, 5, generator=torch.Generator().manual_seed(3))
    return (4 * functional.interpolate(low, size=(24, 32), mode="bilinear"))[0].softmax(0)


@needs_crf
def test_labels_of_a_crf_are_made_when_they_are_asked_for_elsewhere_too():
    scores = smooth_scores(5)
    lazy = CRFLabels(RGB, scores, CRF, min_probability=0.0)
    got = np.asarray(pickle.loads(pickle.dumps(lazy)))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, dense_crf(RGB, scores.numpy(), CRF).argmax(0))
    assert np.asarray(lazy, dtype=np.int64).dtype == np.int64


@needs_crf
def test_classes_that_are_nowhere_probable_are_left_out_and_keep_their_numbers():
    scores = torch.full((7, 24, 32), 2e-4)
    scores[[1, 4, 6]] = smooth_scores(3) * (1 - 8e-4)
    lazy = CRFLabels(RGB, scores, CRF, min_probability=1e-3)
    assert lazy.class_ids.tolist() == [1, 4, 6]
    few, full = np.asarray(lazy), np.asarray(CRFLabels(RGB, scores, CRF, min_probability=0.0))
    assert (few != full).mean() < 0.01
    assert set(np.unique(few)) <= {1, 4, 6}


def test_one_class_needs_no_crf_and_even_scores_of_many_keep_them_all():
    scores = torch.zeros(3, 4, 5)
    scores[2] = 1
    labels = np.asarray(CRFLabels(np.zeros((4, 5, 3), np.uint8), scores, CRF, 1e-3))
    assert (labels == 2).all() and labels.shape == (4, 5)
    scores = torch.full((2000, 2, 2), 1 / 2000)
    assert len(CRFLabels(np.zeros((2, 2, 3), np.uint8), scores, CRF, 1e-3).class_ids) == 2000
