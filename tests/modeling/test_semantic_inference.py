"""Spec section 7, acceptance check 16."""

from __future__ import annotations

import pickle
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch.nn import functional

from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.modeling.semantic_inference import (
    PROTOCOLS,
    CRFLabels,
    ProtocolParams,
    label_image,
    multi_scale,
    single_scale,
)

needs_crf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="no CRF")
CRF = DenseCRFParams(3.0, 3.0, 4.0, 30.0, 10.0, 5)


@pytest.fixture
def conv() -> torch.nn.Conv2d:
    layer = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
    return layer.requires_grad_(False)


def image(height: int = 31, width: int = 45) -> torch.Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(2))


def test_eight_passes_are_averaged_before_anything_else(conv) -> None:
    x, size, scales = image(), (20, 30), (1.0, 0.5, 1.5)
    plain = []
    for scale in scales:
        scaled = (int(31 * scale), int(45 * scale))
        y = functional.interpolate(x[None], size=scaled, mode="bilinear", align_corners=True)
        for flip in (False, True):
            scores = conv(y.flip(-1))[..., :].flip(-1) if flip else conv(y)
            plain.append(
                functional.interpolate(scores, size=size, mode="bilinear", align_corners=True)
            )
    got = multi_scale(conv, x, size, scales)
    torch.testing.assert_close(got, torch.stack(plain).mean(0)[0])
    mean_of_softmax = torch.stack([(20 * p).softmax(1) for p in plain]).mean(0)[0]
    assert ((20 * got).softmax(0) - mean_of_softmax).abs().max() > 0.01


def test_a_mirrored_image_has_mirrored_labels_at_many_scales(conv) -> None:
    a = multi_scale(conv, image(), (31, 45), (1.0, 0.7))
    b = multi_scale(conv, image().flip(-1), (31, 45), (1.0, 0.7))
    torch.testing.assert_close(a.flip(-1), b)


def test_mirror_images_share_a_forward_pass(conv) -> None:
    batches = []
    multi_scale(lambda x: batches.append(x.shape) or conv(x), image(), (31, 45), (1.0, 0.01))
    assert [tuple(shape) for shape in batches] == [(2, 3, 31, 45), (2, 3, 1, 1)]


def test_every_protocol_by_name(conv) -> None:
    original = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    params = ProtocolParams(PROTOCOLS, scales=(1.0, 0.5), temperature=20.0, crf=CRF)
    scores, labels = label_image(conv, image(), (31, 45), params, original)
    assert list(labels) == list(PROTOCOLS)
    expected = single_scale(conv, image(), (31, 45))
    torch.testing.assert_close(scores, (20 * expected).softmax(0))
    assert torch.equal(labels["single"], expected.argmax(0).to(torch.uint8))
    averaged = multi_scale(conv, image(), (31, 45), (1.0, 0.5))
    assert torch.equal(labels["multi"], averaged.argmax(0).to(torch.uint8))
    assert isinstance(labels["multi_crf"], CRFLabels)


def test_the_first_protocol_gives_the_scores(conv) -> None:
    params = ProtocolParams(("multi", "single"), scales=(0.5,), temperature=20.0)
    scores, _ = label_image(conv, image(), (31, 45), params)
    averaged = multi_scale(conv, image(), (31, 45), (0.5,))
    torch.testing.assert_close(scores, (20 * averaged).softmax(0))


def test_a_crf_needs_the_image(conv) -> None:
    with pytest.raises(ValueError, match="original image"):
        label_image(conv, image(), (31, 45), ProtocolParams(("single_crf",)))


def smooth_scores(classes: int, height: int = 24, width: int = 32) -> torch.Tensor:
    low = torch.randn(1, classes, 4, 5, generator=torch.Generator().manual_seed(3))
    return (4 * functional.interpolate(low, size=(height, width), mode="bilinear"))[0].softmax(0)


@needs_crf
def test_labels_of_a_crf_are_made_when_they_are_asked_for_elsewhere_too() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    scores = smooth_scores(5)
    lazy = CRFLabels(rgb, scores, CRF, min_probability=0.0)
    expected = dense_crf(rgb, scores.numpy(), CRF).argmax(0)
    got = np.asarray(pickle.loads(pickle.dumps(lazy)))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)
    assert np.asarray(lazy, dtype=np.int64).dtype == np.int64


@needs_crf
def test_classes_that_are_nowhere_probable_are_left_out_and_keep_their_numbers() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    some = smooth_scores(3)
    scores = torch.full((7, 24, 32), 2e-4)
    scores[[1, 4, 6]] = some * (1 - 8e-4)
    lazy = CRFLabels(rgb, scores, CRF, min_probability=1e-3)
    assert lazy.class_ids.tolist() == [1, 4, 6]
    full = np.asarray(CRFLabels(rgb, scores, CRF, min_probability=0.0))
    assert (np.asarray(lazy) != full).mean() < 0.01
    assert set(np.unique(np.asarray(lazy))) <= {1, 4, 6}


def test_one_class_needs_no_crf() -> None:
    scores = torch.zeros(3, 4, 5)
    scores[2] = 1
    labels = np.asarray(CRFLabels(np.zeros((4, 5, 3), np.uint8), scores, CRF, 1e-3))
    assert (labels == 2).all() and labels.shape == (4, 5)


def test_even_scores_of_many_classes_keep_them_all() -> None:
    scores = torch.full((2000, 2, 2), 1 / 2000)
    assert len(CRFLabels(np.zeros((2, 2, 3), np.uint8), scores, CRF, 1e-3).class_ids) == 2000
