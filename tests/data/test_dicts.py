"""Standard dicts behind the supervision guard."""

from __future__ import annotations

import json

import pytest
from detectron2.structures import BoxMode

from wsis.data.dicts import source_from_dicts, to_dicts
from wsis.data.source import load_source
from wsis.errors import ConfigError, DataError

RLE = {"size": [10, 12], "counts": [10, 5, 105]}


def make(tmp_path, info=None, **extra):
    document = {
        "info": info or {},
        "images": [{"id": 1, "file_name": "a.png", "height": 10, "width": 12}],
        "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 9, "bbox": [-1, 2, 3, 4], **extra},
            {"id": 2, "image_id": 1, "category_id": 4, "bbox": [0, 0, 0, 4]},
            {"id": 3, "image_id": 1, "category_id": 4, "bbox": [0, 0, 2, 4], "iscrowd": 1},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    return load_source(tmp_path / "a.json", tmp_path, bad_box="skip")


@pytest.mark.parametrize("supervision", ["box", "image"])
def test_nothing_of_a_mask_passes(tmp_path, supervision):
    full = make(tmp_path, segmentation=[[1, 1]], area=3, keypoints=[1], score=0.5)
    with_masks = to_dicts(full, supervision)
    assert with_masks == to_dicts(make(tmp_path), supervision)
    annotation = with_masks[0]["annotations"][0]
    assert annotation == {
        "id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [0, 2, 2, 6],
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def test_bad_boxes_are_left_out_and_crowds_kept(tmp_path):
    record = to_dicts(make(tmp_path), "box")[0]
    assert [a["id"] for a in record["annotations"]] == [1, 3]
    assert record["image_labels"] == [0, 1]


def test_class_agnostic(tmp_path):
    record = to_dicts(make(tmp_path), "box", class_agnostic=True)[0]
    assert {a["category_id"] for a in record["annotations"]} == {0}
    assert record["image_labels"] == [0]


def test_masks_pass_where_they_may(tmp_path):
    extra = {"segmentation": RLE, "ignore_segmentation": RLE, "score": 0.25}
    annotation = to_dicts(make(tmp_path, **extra), "mask")[0]["annotations"][0]
    assert {key: annotation[key] for key in extra} == extra
    with pytest.raises(ConfigError, match=r"a\.json has no info\.wsis"):
        to_dicts(make(tmp_path, **extra), "proxy")
    assert to_dicts(make(tmp_path, info={"wsis": {}}, **extra), "proxy")


@pytest.mark.parametrize(
    "bad", [[[1, 1]], {"size": [3, 3], "counts": "0"}, {"size": [10, 12], "counts": [3]}, 5]
)
def test_a_malformed_mask_is_named_where_it_is_used(tmp_path, bad):
    source = make(tmp_path, segmentation=bad)
    assert to_dicts(source, "box")
    with pytest.raises(DataError, match=r"a\.json: annotation 1: key 'segmentation'"):
        to_dicts(source, "mask")


def test_unknown_supervision(tmp_path):
    with pytest.raises(ConfigError, match="found 'boxes', expected one of box, image"):
        to_dicts(make(tmp_path), "boxes")


def test_datasets_registered_from_python_take_the_same_way():
    record = {"image_id": "x", "file_name": "/data/a.png", "height": 10, "width": 12}
    annotations = [
        {"bbox": [1, 2, 5, 6], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1},
        {"bbox": [1, 2, 5, 6], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0},
    ]
    source = source_from_dicts("mine", [{**record, "annotations": annotations}], ["a", "b"])
    assert [a["bbox"] for a in source.annotations] == [[1, 2, 4, 4], [1, 2, 5, 6]]
    assert [a["id"] for a in source.annotations] == [1, 2]
    assert to_dicts(source, "box")[0]["annotations"][0]["bbox"] == [1, 2, 5, 6]
    assert source.path_of(source.images[0]) == "/data/a.png"
    with pytest.raises(DataError, match="dataset mine: image number 0: key 'height' is missing"):
        source_from_dicts("mine", [{"image_id": 1, "file_name": "a"}], ["a"])
