"""The COCO converter: the same file without masks."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from wsis.data.builtin_paths import BUILTIN
from wsis.data.source import load_source
from wsis.errors import DataError

SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_coco.py"
DOCUMENT: dict[str, Any] = {
    "info": {"year": 2017},
    "licenses": [{"id": 1}],
    "images": [{"id": 9, "file_name": "000000000009.jpg", "height": 480, "width": 640}],
    "annotations": [
        {
            "id": 7,
            "image_id": 9,
            "category_id": 18,
            "bbox": [10.5, 20.25, 30.0, 40.0],
            "area": 321.5,
            "iscrowd": 0,
            "segmentation": [[10.5, 20.25, 40.5, 20.25, 40.5, 60.25]],
            "keypoints": [1, 2, 2],
            "num_keypoints": 1,
        },
        {
            "id": 900100000009,
            "image_id": 9,
            "category_id": 18,
            "bbox": [0, 0, 4, 5],
            "area": 3,
            "iscrowd": 1,
            "segmentation": {"size": [480, 640], "counts": [0, 3, 307197]},
        },
        {"id": 8, "image_id": 9, "category_id": 18, "bbox": [3, 4, 5, 0], "area": 0, "iscrowd": 0},
    ],
    "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}],
}


def prepare(root: Path) -> None:
    runpy.run_path(str(SCRIPT))["main"](["--root", str(root)])


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """The official file in a datasets root."""
    path = tmp_path / "coco" / "annotations" / "instances_train2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(DOCUMENT))
    return path


def test_only_masks_and_what_came_of_them_are_gone(tmp_path: Path, full: Path) -> None:
    prepare(tmp_path)
    json_file = tmp_path / BUILTIN["coco_2017_train_boxes"][0]
    document = json.loads(json_file.read_text())
    for key in ("info", "licenses", "images", "categories"):
        assert document[key] == DOCUMENT[key]
    boxes = document["annotations"]
    assert [a["id"] for a in boxes] == [7, 900100000009, 8]
    assert [a["bbox"] for a in boxes] == [a["bbox"] for a in DOCUMENT["annotations"]]
    assert [a["area"] for a in boxes] == [1200.0, 20, 0]
    assert [a["iscrowd"] for a in boxes] == [0, 1, 0]
    assert all(
        set(a) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"} for a in boxes
    )
    assert json.loads(full.read_text()) == DOCUMENT
    assert not load_source(json_file, bad_box="skip").has_masks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "instances_train2017.json: no such file"),
        (json.dumps(DOCUMENT)[:400], "instances_train2017.json: not valid JSON"),
        ("[]", "instances_train2017.json: found a list, expected an object"),
        (
            json.dumps(DOCUMENT | {"annotations": [{"id": 1, "image_id": 9, "category_id": 18}]}),
            "instances_train2017.json: annotation 1: key 'bbox': found None",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, full: Path, text: str | None, message: str) -> None:
    full.unlink()
    if text is not None:
        full.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        prepare(tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / BUILTIN["coco_2017_train_boxes"][0]).exists()
