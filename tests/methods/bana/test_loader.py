"""What BANA's stage 1 trains on: crops with their boxes and the certain background."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.tiny import SIZE, write_dataset, write_json
from wsis.config import load_cfg
from wsis.data import crop_loader
from wsis.data.build import training_dicts
from wsis.data.crop_transform import Draw
from wsis.data.registration import prepare_datasets
from wsis.methods.bana.loader import CropMapper, certain_background


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
        opts |= {"DATASETS.TRAIN": ("tiny",), "INPUT.SCALED_CROP.SIZE": SIZE} | keys
        opts |= {"INPUT.SCALED_CROP.SCALE_RANGE": [1.0, 1.0], "INPUT.SCALED_CROP.JITTER": 0.0}
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

    mapper, dicts = mapper_and_dicts(add, **{"INPUT.SCALED_CROP.SIZE": 16})
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
