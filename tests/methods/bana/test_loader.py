"""What BANA's stage 1 trains on: crops with their boxes and the certain background."""

import cv2
import numpy as np
import pytest
import torch

from tests.methods.bana.tiny_segmentor import data_entry, make_cfg
from tests.tiny import SIZE, write_dataset, write_json
from wsis.data import crop_loader
from wsis.data.build import training_dicts
from wsis.data.crop_transform import Draw
from wsis.data.registration import prepare_datasets
from wsis.methods.bana.loader import CropMapper


@pytest.fixture
def make(tmp_path):
    """The mapper and the dicts of two images, with one more annotation or without masks."""

    def mapper_and_dicts(added=None, bare=False, **keys):
        document = write_dataset(tmp_path / "data", number=2)
        if added:
            document["annotations"].append({"id": 99, "image_id": 1, "category_id": 3, **added})
        for annotation in document["annotations"] if bare else ():
            del annotation["segmentation"], annotation["area"]
        write_json(tmp_path / "data", document)
        crop = {"SIZE": SIZE, "SCALE_RANGE": [1.0, 1.0], "JITTER": 0.0}
        opts = {"DATASETS.CUSTOM": [data_entry("tiny", tmp_path)], "DATASETS.TRAIN": ("tiny",)}
        opts |= {f"INPUT.SCALED_CROP.{name}": value for name, value in crop.items()} | keys
        cfg = make_cfg({}, **opts)
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        return CropMapper(cfg), training_dicts(cfg)

    return mapper_and_dicts


@pytest.fixture
def drawn(monkeypatch):
    return lambda *draw: monkeypatch.setattr(crop_loader, "draw_sample", lambda _: Draw(*draw))


def test_a_sample_of_the_loader(make):
    mapper, dicts = make()
    sample = mapper(dicts[0])
    assert sample["image"].shape == (3, SIZE, SIZE) and sample["image"].dtype == torch.float32
    ((x0, y0, x1, y1),) = sample["instances"].gt_boxes.tensor.int().tolist()
    expected = torch.ones(SIZE, SIZE, dtype=torch.uint8)
    expected[y0:y1, x0:x1] = 0
    assert torch.equal(sample["background"], expected)
    assert sample["instances"].gt_classes.tolist() == [1], "tall is the second class"
    original, shown = cv2.imread(dicts[0]["file_name"]).transpose(2, 0, 1), sample["image"].numpy()
    assert any(np.allclose(each, original, atol=1e-3) for each in (shown, shown[:, :, ::-1]))


def test_padding_is_no_background(make, drawn):
    mapper, dicts = make()
    drawn(0.5, 0.0, 0.0, False)
    background = mapper(dicts[0])["background"]
    quarter = SIZE // 4
    inner = background[quarter:-quarter, quarter:-quarter]
    assert inner.any() and background.sum() == inner.sum()


def test_boxes_in_the_crop_keep_their_classes(make, drawn):
    mapper, dicts = make({"bbox": [60, 60, 4, 3]}, **{"INPUT.SCALED_CROP.SIZE": 16})
    drawn(1.0, 0.999, 0.999, False)
    instances = mapper(dicts[0])["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[13, 13, 16, 16]], "the crop begins at 47"
    assert instances.gt_classes.tolist() == [0], "wide, not the tall one that the crop lacks"


def test_a_crowd_is_neither_object_nor_background(make):
    mapper, dicts = make({"bbox": [0, 0, 5, 5], "iscrowd": 1})
    sample = mapper(dicts[0])
    assert len(sample["instances"]) == 1
    corners = sample["background"][:5, :5], sample["background"][:5, -5:]
    assert any((corner == 0).all() for corner in corners)


def test_masks_of_a_file_change_nothing(make):
    def samples(**how):
        mapper, dicts = make(**how)
        torch.manual_seed(3)
        return [mapper(each) for each in dicts]

    for a, b in zip(samples(), samples(bare=True), strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["background"], b["background"])
        assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)


@pytest.mark.parametrize(("shift", "size"), [(False, 14 * 30), (True, 13 * 29)])
def test_boxes_as_the_original_release_reads_them(make, shift, size):
    mapper, dicts = make(MODEL__BANA__LEGACY_BOX_SHIFT=shift)
    assert (mapper(dicts[0])["background"] == 0).sum() == size
