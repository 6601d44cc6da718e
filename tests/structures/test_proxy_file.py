"""The proxy-mask file: what is in it, and that it is whole or not there."""

import json
import os

import numpy as np
import pytest
from detectron2.data.datasets import load_coco_json
from PIL import Image
from pycocotools.coco import COCO

from tests.masks import rectangle
from wsis.errors import DataError
from wsis.structures.proxy_file import (
    atomic_writer,
    proxy_annotation,
    read_proxy_file,
    write_json_atomic,
    write_proxy_file,
)
from wsis.structures.rle import decode_mask, encode_mask

SOURCE = {"id": 5, "image_id": 1, "category_id": 3, "bbox": [1.5, 2, 3, 4], "area": 99, "x": 1}


def test_annotation_keeps_the_source_and_measures_the_mask():
    code = encode_mask(rectangle((10, 12), 1, 2, 6, 4))
    expected = {key: SOURCE[key] for key in ("id", "image_id", "category_id", "bbox")}
    expected |= {"area": 10, "score": 0.333333, "iscrowd": 0, "segmentation": code, "status": "ok"}
    assert proxy_annotation(SOURCE, code, None, 1 / 3, "ok") == expected


def test_file_loads_in_pycocotools_and_in_detectron2(tmp_path):
    mask = rectangle((10, 12), 1, 2, 6, 7)
    mask[4, 3] = False  # a hole
    Image.new("RGB", (12, 10)).save(tmp_path / "a.png")
    path = tmp_path / "proxy.json"
    write_proxy_file(
        path,
        {"wsis": {"method": "test"}},
        [{"id": 1, "file_name": "a.png", "height": 10, "width": 12}],
        [{"id": 3, "name": "thing"}],
        (proxy_annotation({**SOURCE, "id": i}, encode_mask(mask), None, 1, "ok") for i in (1, 2)),
    )
    coco = COCO(str(path))
    assert np.array_equal(coco.annToMask(coco.anns[2]).astype(bool), mask)
    dicts = load_coco_json(str(path), str(tmp_path), extra_annotation_keys=["score"])
    assert np.array_equal(decode_mask(dicts[0]["annotations"][0]["segmentation"]), mask)
    assert read_proxy_file(path)["info"]["wsis"]["method"] == "test"
    write_proxy_file(tmp_path / "p.json", {}, [], [{"id": 1, "name": "a"}], [])
    assert read_proxy_file(tmp_path / "p.json")["annotations"] == []


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_json_atomic(target, {"a": 1})
    with pytest.raises(RuntimeError), atomic_writer(target) as stream:
        stream.write("half")
        raise RuntimeError
    assert json.loads(target.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "found a list"),
        ('{"images": []', "not valid JSON"),
        ('{"images": [], "annotations": {}}', "key 'annotations': found dict"),
        ("\udcff", "not valid JSON"),
    ],
)
def test_reading_names_the_file(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message) as error:
        read_proxy_file(path)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="no such file"):
        read_proxy_file(tmp_path / "absent.json")
