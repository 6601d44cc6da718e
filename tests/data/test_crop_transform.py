"""Crops for training: image, background and boxes stay together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.tiny import SIZE, write_dataset, write_json
from wsis.config import load_cfg
from wsis.data.build import training_dicts
from wsis.data.crop_transform import (
    PADDING_RGB,
    CropTransform,
    Draw,
    SampleParams,
    certain_background,
    draw_sample,
)
from wsis.data.registration import prepare_datasets
from wsis.methods.bana import crop_loader
from wsis.methods.bana.loader import CropMapper


def rectangle(height, width, box):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return image


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_boxes_stay_on_their_pixels(scale, flip):
    box = [12, 20, 40, 36]
    transform = CropTransform((60, 80), (48, 48), Draw(scale, 0.4, 0.7, flip))
    found, seen = transform.boxes(np.array([box]))
    shown = transform.image(rectangle(60, 80, box)).max(axis=2) > 140
    padding = transform.label(np.zeros((60, 80), np.uint8), 255) == 255
    rows, columns = np.nonzero(shown & ~padding)
    tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert seen.tolist() == [True]
    assert np.abs(found[0] - tight).max() <= 1


def test_a_box_beyond_the_crop_is_gone_and_a_cut_one_ends_at_its_edge():
    transform = CropTransform((100, 100), (40, 40), Draw(1.0, 0.0, 0.0, False))
    boxes = np.array([[50, 50, 60, 60], [30, 30, 70, 70], [0, 40, 10, 50], [0, 0, 100, 100]])
    found, seen = transform.boxes(boxes)
    assert seen.tolist() == [False, True, False, True]
    assert found.tolist() == [[30, 30, 40, 40], [0, 0, 40, 40]]


def test_a_short_side_is_padded_on_both_ends():
    transform = CropTransform((30, 60), (41, 41), Draw(1.0, 0.0, 0.0, False))
    assert transform.padding == (6, 0)
    image = transform.image(np.full((30, 60, 3), 7, np.uint8))
    label = transform.label(np.ones((30, 60), np.uint8), 0)
    assert image.shape == (41, 41, 3) and (image[:6] == PADDING_RGB).all()
    assert (label[:6] == 0).all() and (label[6:36] == 1).all() and (label[36:] == 0).all()


def test_colours_change_by_factors_and_stay_in_range():
    image = np.full((8, 8, 3), 100, np.uint8)
    brighter = CropTransform((8, 8), (8, 8), Draw(1, 0, 0, False, (1.5, 1.0, 1.0))).image(image)
    assert np.allclose(brighter, 150, atol=1e-3)
    white = CropTransform((8, 8), (8, 8), Draw(1, 0, 0, False, (1.5, 1.5, 1.5))).image(image + 120)
    assert white.max() <= 255


def test_brightness_contrast_and_saturation_in_this_order():
    image = np.array([[[40, 80, 120], [200, 100, 60]]], np.uint8)
    draw = Draw(1, 0, 0, False, (0.8, 0.7, 1.2))
    found = CropTransform((1, 2), (1, 2), draw).image(image)

    def grey(pixels):
        return pixels @ np.array([0.2989, 0.587, 0.114])

    expected = 0.8 * image.astype(np.float64)
    expected = 0.7 * expected + 0.3 * grey(expected).mean()
    expected = 1.2 * expected - 0.2 * grey(expected)[..., None]
    assert np.allclose(found, expected, atol=0.1)


def test_draws_cover_their_ranges():
    params = SampleParams(scale_range=(0.5, 1.5), jitter=0.5)
    draws = [draw_sample(params) for _ in range(300)]
    scales = [draw.scale for draw in draws]
    assert 0.5 <= min(scales) < 0.6 and 1.4 < max(scales) <= 1.5
    factors = np.array([draw.colours for draw in draws])
    assert (factors >= 0.5).all() and (factors <= 1.5).all() and np.ptp(factors, axis=0).min() > 0.9
    assert 100 < sum(draw.flip for draw in draws) < 200
    places = np.array([(draw.x, draw.y) for draw in draws])
    assert places.min() >= 0 and places.max() < 1 and np.ptp(places, axis=0).min() > 0.9
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.3


def test_background_is_what_no_box_touches():
    background = certain_background(np.array([[2.5, 1, 4.2, 3], [-3, 0, 1, 2]]), 5, 8)
    expected = np.ones((5, 8))
    expected[1:3, 2:5] = 0
    expected[0:2, 0:1] = 0
    assert (background == expected).all()


@pytest.fixture
def mapper_and_dicts(tmp_path):
    def make(change=lambda document: None, **keys):
        document = write_dataset(tmp_path, number=2)
        change(document)
        write_json(tmp_path, document)
        opts = {"DATASETS.CUSTOM": [["tiny", str(tmp_path / "boxes.json"), str(tmp_path)]]}
        opts |= {"DATASETS.TRAIN": ("tiny",), "MODEL.BANA.CROP_SIZE": SIZE} | keys
        opts |= {"MODEL.BANA.SCALE_RANGE": [1.0, 1.0], "MODEL.BANA.JITTER": 0.0}
        cfg = load_cfg(None, [str(word) for pair in opts.items() for word in pair])
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        return CropMapper(cfg), training_dicts(cfg)

    return make


def test_a_sample_of_the_loader(mapper_and_dicts):
    mapper, dicts = mapper_and_dicts()
    sample = mapper(dicts[0])
    assert sample["image"].shape == (3, SIZE, SIZE) and sample["image"].dtype == torch.float32
    (box,) = sample["instances"].gt_boxes.tensor.int().tolist()
    x0, y0, x1, y1 = box
    expected = torch.ones(SIZE, SIZE, dtype=torch.uint8)
    expected[y0:y1, x0:x1] = 0
    assert torch.equal(sample["background"], expected)
    assert sample["instances"].gt_classes.tolist() == [1], "tall is the second class"
    original = cv2.imread(dicts[0]["file_name"]).transpose(2, 0, 1)
    shown = sample["image"].numpy()
    assert np.allclose(shown, original, atol=1e-3) or np.allclose(
        shown[:, :, ::-1], original, atol=1e-3
    )


def test_padding_is_no_background(mapper_and_dicts, monkeypatch):
    mapper, dicts = mapper_and_dicts()
    monkeypatch.setattr(crop_loader, "draw_sample", lambda params: Draw(0.5, 0.0, 0.0, False))
    background = mapper(dicts[0])["background"]
    quarter = SIZE // 4
    inner = background[quarter:-quarter, quarter:-quarter]
    assert inner.any() and background.sum() == inner.sum()


def test_boxes_in_the_crop_keep_their_classes(mapper_and_dicts, monkeypatch):
    def add(document):
        box = {"id": 99, "image_id": 1, "category_id": 3, "bbox": [60, 60, 4, 3]}
        document["annotations"].append(box)

    mapper, dicts = mapper_and_dicts(add, **{"MODEL.BANA.CROP_SIZE": 16})
    monkeypatch.setattr(crop_loader, "draw_sample", lambda params: Draw(1.0, 0.999, 0.999, False))
    instances = mapper(dicts[0])["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[13, 13, 16, 16]], "the crop begins at 47"
    assert instances.gt_classes.tolist() == [0], "wide, not the tall one that the crop lacks"


def test_a_crowd_is_neither_object_nor_background(mapper_and_dicts):
    def add(document):
        crowd = {"id": 99, "image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 1}
        document["annotations"].append(crowd)

    mapper, dicts = mapper_and_dicts(add)
    sample = mapper(dicts[0])
    assert len(sample["instances"]) == 1
    corners = sample["background"][:5, :5], sample["background"][:5, -5:]
    assert any((corner == 0).all() for corner in corners)


def test_masks_of_a_file_change_nothing(mapper_and_dicts):
    def samples(change):
        mapper, dicts = mapper_and_dicts(change)
        torch.manual_seed(3)
        return [mapper(each) for each in dicts]

    def bare(document):
        for annotation in document["annotations"]:
            del annotation["segmentation"], annotation["area"]

    for a, b in zip(samples(lambda document: None), samples(bare), strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["background"], b["background"])
        assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)


def test_boxes_as_the_original_release_reads_them(mapper_and_dicts):
    torch.manual_seed(5)
    mapper, dicts = mapper_and_dicts()
    plain = mapper(dicts[0])["background"]
    torch.manual_seed(5)
    mapper, dicts = mapper_and_dicts(**{"MODEL.BANA.LEGACY_BOX_SHIFT": True})
    shifted = mapper(dicts[0])["background"]
    width, height = 14, 30
    assert (plain == 0).sum() == width * height
    assert (shifted == 0).sum() == (width - 1) * (height - 1)
