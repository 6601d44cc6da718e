"""Both labels, step by step, and the background attention."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.bana import FullSize
from tests.masks import needs_crf
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.enlarged import Enlarged
from wsis.layers.label_to_masks import ImageBoxes, union
from wsis.methods.bana.attention import attention_map
from wsis.methods.bana.coco import voc_rows
from wsis.methods.bana.pseudo_labels import (
    IGNORE,
    LabelParams,
    class_activation,
    class_unaries,
    intersection,
    retrieval_maps,
    semantic_labels,
)
from wsis.structures import Seed
from wsis.structures.boxes import box_to_slices

SIZE = (48, 60)
ROWS = [1, 2, 3]
PARAMS = LabelParams(DenseCRFParams(3, 3, 4, 20, 10, iterations=5))
WITHOUT = replace(PARAMS, use_attention=False)


def boxes_of(*corners, labels):
    slices = [box_to_slices(box, *SIZE) for box in corners]
    return ImageBoxes(SIZE, slices, np.array(labels), ~union(slices, SIZE))


G = torch.Generator().manual_seed(20)
FEATURES = torch.nn.functional.avg_pool2d(torch.rand(16, 8, 10, generator=G), 3, stride=1)  # smooth
FEW = Enlarged(FEATURES, SIZE)
WEIGHTS = torch.randn(4, 16, generator=G)
BOXES = boxes_of([4, 5, 30, 40], [22, 8, 55, 30], [20, 20, 36, 44], labels=[1, 3, 1])
IMAGE = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@needs_crf
def test_few_maps_and_enlarged_features_make_the_same_labels():
    ways = FEW, FullSize(FEATURES, SIZE)
    maps = [class_unaries(way, BOXES, WEIGHTS, ROWS, PARAMS) for way in ways]
    assert torch.allclose(*maps, atol=1e-4)
    labels = [semantic_labels(IMAGE, way, BOXES, WEIGHTS, ROWS, PARAMS) for way in ways]
    assert np.array_equal(*labels)


@needs_crf
def test_no_label_leaves_the_boxes_of_its_class():
    both = semantic_labels(IMAGE, FEW, BOXES, WEIGHTS, ROWS, PARAMS)
    for label in both:
        for value in (1, 2, 3):
            assert not (label == value)[~union(BOXES.boxes_of(value), SIZE).numpy()].any()
        assert (label[BOXES.background.numpy()] == 0).all() and (label != 0).any()
    common = intersection(*both)
    assert np.array_equal(common == IGNORE, both[0] != both[1])
    assert np.array_equal(common[common != IGNORE], both[0][common != IGNORE])


def test_what_a_crowd_shows_is_no_example_of_background():
    """Also not of Y_crf's background, which retrieval looks for: outside of boxes a crowd is 0 until it is written."""
    crowd = torch.zeros(SIZE, dtype=torch.bool)
    crowd[:, 56:] = True
    boxes = replace(BOXES, background=BOXES.background & ~crowd)
    pixels = torch.rand(16, *SIZE)
    other = torch.where(crowd, 9 * torch.rand(16, 1, 1), pixels)
    y_crf = np.zeros(SIZE, np.uint8)
    y_crf[10:30, 6:20] = 1
    maps = [
        retrieval_maps(FullSize(p, SIZE), boxes, WEIGHTS, ROWS, y_crf, torch.zeros(3, *SIZE))
        for p in (pixels, other)
    ]
    assert torch.allclose(*(each[:, ~crowd] for each in maps), atol=1e-5)


@needs_crf
def test_background_attention_matters():
    maps = [class_unaries(FEW, BOXES, WEIGHTS, ROWS, p) for p in (PARAMS, WITHOUT)]
    inside = union(BOXES.boxes, SIZE)
    assert (maps[0][0][inside] > 0).any() and (maps[1][0][inside] == 0).all()
    assert torch.equal(maps[0][1:], maps[1][1:])
    labels = [semantic_labels(IMAGE, FEW, BOXES, WEIGHTS, ROWS, p)[0] for p in (PARAMS, WITHOUT)]
    assert not np.array_equal(*labels)


def test_a_later_box_overwrites_an_earlier_one():
    score = torch.zeros(6, 8)
    score[1, 1], score[3, 4] = 4.0, 2.0
    boxes = [box_to_slices(box, 6, 8) for box in ([0, 0, 6, 6], [3, 2, 8, 6])]
    assert class_activation(score, boxes)[3, 4] == pytest.approx(1.0)
    assert class_activation(score, boxes[::-1])[3, 4] == pytest.approx(0.5)


def test_an_empty_class_falls_back_to_the_classifiers_row():
    unaries = class_unaries(FEW, BOXES, WEIGHTS, ROWS, PARAMS)
    y_crf = union(BOXES.boxes_of(1), SIZE).numpy().astype(np.uint8)
    maps = retrieval_maps(FEW, BOXES, WEIGHTS, ROWS, y_crf, unaries)
    own = union(BOXES.boxes_of(3), SIZE)
    assert torch.allclose(maps[2], FEW.cosines(WEIGHTS[3:4])[0].relu() * own)


def test_a_class_that_the_classifier_lacks_is_what_is_not_background():
    rows = [1, 2, None]
    unaries = class_unaries(FEW, BOXES, WEIGHTS, rows, PARAMS)
    assert torch.allclose(unaries[2], (1 - unaries[0]) * union(BOXES.boxes_of(3), SIZE))
    maps = retrieval_maps(FEW, BOXES, WEIGHTS, rows, np.zeros(SIZE, np.uint8), unaries)
    assert torch.allclose(maps[2], unaries[2])


def test_rows_of_cocos_classes():
    rows = voc_rows(80)
    assert sorted(row for row in rows if row) == list(range(1, 21)) and rows.count(None) == 60
    assert (rows[0], rows[2], rows[62]) == (15, 7, 20), "person, car, tv"


MEAN = np.array([6 * 4, 6 + 3])  # with the box's column x = 4 and the rest of its row y = 0


@pytest.mark.parametrize(
    ("box", "shift", "halves"),
    [
        ((4, 0, 8, 6), False, (1, 0)),
        ((4, 0, 8, 6), True, MEAN / np.hypot(*MEAN)),
        ((0, 0, 8, 6), False, (0, 0)),
    ],
    ids=["cosine to the background's mean", "as the old release", "no background"],
)
def test_attention_map(box, shift, halves):
    """The left half of the image has feature e0, the right half e1; at the image's own resolution."""
    features = np.zeros((2, 6, 8), dtype=np.float32)
    features[0, :, :4] = features[1, :, 4:] = 1
    boxes, classes = np.array([box], dtype=np.float32), np.zeros(1, dtype=np.int64)
    seed = Seed(1, "a.png", 6, 8, boxes, classes, (7,), {"features": features})
    expected = np.repeat([halves], 4, axis=1).repeat(6, axis=0)
    np.testing.assert_allclose(attention_map(seed, shift), expected, rtol=1e-6)
