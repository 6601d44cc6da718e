"""Both labels and the masks that are cut from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.bana import FullSize
from tests.golden.checks_bana_labels import image_boxes, label_params
from tests.golden.frame import read_arrays
from tests.methods.bbam.tiny_detector import needs_crf
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.enlarged import Enlarged
from wsis.layers.label_to_masks import ImageBoxes, instance_masks, union
from wsis.methods.bana.coco import voc_rows
from wsis.methods.bana.pseudo_labels import (
    IGNORE,
    LabelParams,
    background_attention,
    class_activation,
    class_unaries,
    intersection,
    retrieval_maps,
    semantic_labels,
    unary_probabilities,
)
from wsis.structures.boxes import box_to_slices

RECORDED = Path(__file__).parents[2] / "golden" / "data" / "bana" / "stage2_one_box.npz"
SIZE = (48, 60)
ROWS = [1, 2, 3]
PARAMS = LabelParams(DenseCRFParams(3, 3, 4, 20, 10, iterations=5))


def boxes_of(*corners, labels, size=SIZE):
    slices = [box_to_slices(box, *size) for box in corners]
    return ImageBoxes(size, slices, np.array(labels), ~union(slices, size))


@pytest.fixture
def boxes():
    return boxes_of([4, 5, 30, 40], [22, 8, 55, 30], [20, 20, 36, 44], labels=[1, 3, 1])


@pytest.fixture
def features():
    """Non-negative, smooth."""
    return torch.nn.functional.avg_pool2d(torch.rand(16, 10, 12), 3, stride=1)[:, :6, :8]


@pytest.fixture
def weights():
    return torch.randn(4, 16)


@pytest.fixture
def image():
    return np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@needs_crf
def test_few_maps_and_enlarged_features_make_the_same_labels(image, features, boxes, weights):
    few, full = Enlarged(features, SIZE), FullSize(features, SIZE)
    maps = [class_unaries(way, boxes, weights, ROWS, PARAMS) for way in (few, full)]
    assert torch.allclose(*maps, atol=1e-4)
    labels = [semantic_labels(image, way, boxes, weights, ROWS, PARAMS) for way in (few, full)]
    assert np.array_equal(labels[0][0], labels[1][0])
    assert np.array_equal(labels[0][1], labels[1][1])


@needs_crf
def test_no_label_leaves_the_boxes_of_its_class(image, features, boxes, weights):
    both = semantic_labels(image, Enlarged(features, SIZE), boxes, weights, ROWS, PARAMS)
    for label in both:
        for value in (1, 2, 3):
            assert not (label == value)[~union(boxes.boxes_of(value), SIZE).numpy()].any()
        assert (label[~union(boxes.boxes, SIZE).numpy()] == 0).all()
        assert (label != 0).any()
    common = intersection(*both)
    assert np.array_equal(common == IGNORE, both[0] != both[1])
    assert np.array_equal(common[common != IGNORE], both[0][common != IGNORE])


def test_the_threshold_is_of_the_whole_images_maximum():
    arrays = read_arrays(RECORDED)
    boxes, params = image_boxes(arrays), label_params(arrays)
    features = Enlarged(torch.from_numpy(arrays["features"]), boxes.size)
    found = background_attention(features, boxes.background, params.threshold)
    expected = torch.from_numpy(arrays["bg_attention_thresholded"])
    assert ((found - expected).abs() > 1e-4).sum() <= 7
    raw = background_attention(features, boxes.background, 0.0)
    inside = union(boxes.boxes, boxes.size)
    wrong = raw * (raw >= params.threshold * raw[inside].max())
    assert ((wrong - expected).abs() > 1e-4).sum() > 7


def test_what_a_crowd_shows_is_no_example_of_background(boxes, weights):
    """Also not of Y_crf's background, which retrieval looks for: outside of boxes a crowd is 0 until it is written."""
    crowd = torch.zeros(SIZE, dtype=torch.bool)
    crowd[:, 56:] = True
    boxes = replace(boxes, background=boxes.background & ~crowd)
    pixels = torch.rand(16, *SIZE)
    other = torch.where(crowd, 9 * torch.rand(16, 1, 1), pixels)
    y_crf = np.zeros(SIZE, np.uint8)
    y_crf[10:30, 6:20] = 1
    unaries = torch.zeros(3, *SIZE)
    maps = [
        retrieval_maps(FullSize(each, SIZE), boxes, weights, ROWS, y_crf, unaries)
        for each in (pixels, other)
    ]
    assert torch.allclose(*(each[:, ~crowd] for each in maps), atol=1e-5)


@needs_crf
def test_background_attention_matters(image, features, boxes, weights):
    few = Enlarged(features, SIZE)
    without = replace(PARAMS, use_attention=False)
    maps = [class_unaries(few, boxes, weights, ROWS, p) for p in (PARAMS, without)]
    inside = union(boxes.boxes, SIZE)
    assert (maps[0][0][inside] > 0).any() and (maps[1][0][inside] == 0).all()
    assert torch.equal(maps[0][1:], maps[1][1:])
    labels = [semantic_labels(image, few, boxes, weights, ROWS, p)[0] for p in (PARAMS, without)]
    assert not np.array_equal(*labels)


def test_a_later_box_overwrites_an_earlier_one():
    score = torch.zeros(6, 8)
    score[1, 1], score[3, 4] = 4.0, 2.0
    first, second = box_to_slices([0, 0, 6, 6], 6, 8), box_to_slices([3, 2, 8, 6], 6, 8)
    assert class_activation(score, [first, second])[3, 4] == pytest.approx(1.0)
    assert class_activation(score, [second, first])[3, 4] == pytest.approx(0.5)


def test_outside_of_boxes_nothing_but_background():
    unaries = torch.zeros(2, 3, 3)
    unaries[0] = 1
    inside = torch.zeros(3, 3, dtype=torch.bool)
    inside[1, 1] = True
    found = unary_probabilities(unaries, inside)
    assert (found[0][~inside] == 1).all() and (found[1][~inside] == 0).all()
    assert found[:, 1, 1].sum() == pytest.approx(1.0)


@needs_crf
def test_boxes_that_cover_the_image_leave_no_background(image, features, weights):
    boxes = boxes_of([0, 0, 60, 48], [5, 5, 6, 6], labels=[1, 2])
    few = Enlarged(features, SIZE)
    unaries = class_unaries(few, boxes, weights, ROWS, PARAMS)
    assert torch.isfinite(unaries).all() and (unaries[0] == 0).all()
    for label in semantic_labels(image, few, boxes, weights, ROWS, PARAMS):
        assert label.max() <= 2
    y_crf = np.zeros(SIZE, np.uint8)
    maps = retrieval_maps(few, boxes, weights, ROWS, y_crf, unaries)
    assert torch.allclose(maps[0], few.cosines(weights[:1])[0].relu()), "row 0 is the prototype"


def test_a_pixel_of_a_box_is_a_box():
    assert boxes_of([7, 9, 8, 10], labels=[1]).boxes == [(slice(9, 10), slice(7, 8))]
    assert boxes_of([7.2, 9.1, 7.2, 9.1], labels=[1]).boxes == [(slice(9, 10), slice(7, 8))]


def test_an_image_without_boxes_is_background(image, features, weights):
    boxes = boxes_of(labels=[])
    for label in semantic_labels(image, Enlarged(features, SIZE), boxes, weights, ROWS, PARAMS):
        assert label.shape == SIZE and not label.any()


def test_an_empty_class_falls_back_to_the_classifiers_row(features, boxes, weights):
    few = Enlarged(features, SIZE)
    unaries = class_unaries(few, boxes, weights, ROWS, PARAMS)
    y_crf = np.where(union(boxes.boxes_of(1), SIZE), 1, 0).astype(np.uint8)
    maps = retrieval_maps(few, boxes, weights, ROWS, y_crf, unaries)
    own = union(boxes.boxes_of(3), SIZE)
    assert torch.allclose(maps[2], few.cosines(weights[3:4])[0].relu() * own)


def test_a_class_that_the_classifier_lacks_is_what_is_not_background(features, boxes, weights):
    few, rows = Enlarged(features, SIZE), [1, 2, None]
    unaries = class_unaries(few, boxes, weights, rows, PARAMS)
    own = union(boxes.boxes_of(3), SIZE)
    assert torch.allclose(unaries[2], (1 - unaries[0]) * own)
    maps = retrieval_maps(few, boxes, weights, rows, np.zeros(SIZE, np.uint8), unaries)
    assert torch.allclose(maps[2], unaries[2])


def test_rows_of_cocos_classes():
    rows = voc_rows(80)
    assert sorted(row for row in rows if row) == list(range(1, 21)) and rows.count(None) == 60
    assert rows[0] == 15, "person"
    assert rows[2] == 7, "car"
    assert rows[62] == 20, "tv"


def test_a_pixel_that_several_boxes_claim_is_the_smallest_ones():
    label = np.ones((6, 10), dtype=np.uint8)
    label[:, 9] = 2
    boxes = boxes_of(
        [0, 0, 8, 6], [4, 0, 8, 4], [4, 2, 8, 6], [5, 0, 10, 6], labels=[1, 1, 1, 2], size=(6, 10)
    )
    masks = instance_masks(label, boxes, np.array([48.0, 16.0, 16.0, 30.0]))
    assert masks[1].all(), "of two small ones the first"
    assert masks[2][:2].sum() == 0 and masks[2][2:].all()
    assert masks[0][:, :4].all() and not masks[0][:, 4:].any()
    assert masks[3][:, 4].all() and masks[3].sum() == 6, "the other class takes nothing"
