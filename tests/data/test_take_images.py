"""The first images of a COCO file."""

import json

import pytest

from tests.data.converters import SCRIPTS
from tests.tiny import write_dataset

TOOL = SCRIPTS / "take_images.py"


def test_the_first_images_with_what_is_in_them(tmp_path, tool):
    document = write_dataset(tmp_path, number=3)
    words = ("--json", tmp_path / "boxes.json", "--count", 2, "--output", tmp_path / "two.json")
    status, out, _ = tool(TOOL, *words)
    assert status == 0 and "2 images, 2 annotations" in out
    taken = json.loads((tmp_path / "two.json").read_text())
    assert taken["images"] == document["images"][:2]
    assert taken["annotations"] == document["annotations"][:2]
    assert taken["categories"] == document["categories"]


@pytest.mark.parametrize(
    ("document", "count", "message"),
    [
        ({}, 0, "--count: found 0, expected at least 1"),
        ({}, -1, "--count: found -1, expected at least 1"),
        ({}, 4, "boxes.json: found 3 images, expected at least 4"),
        ({"images": None}, 1, "key 'images': expected a list of objects, found None"),
        ({"images": [{}]}, 1, "image number 0: key 'id': found None"),
        ({"annotations": [{"id": 1}]}, 1, "annotation 1: key 'image_id': None is not among"),
    ],
)
def test_mistakes_are_one_line(tmp_path, tool, document, count, message):
    whole = write_dataset(tmp_path, number=3)
    (tmp_path / "boxes.json").write_text(json.dumps(whole | document))
    output = tmp_path / "taken.json"
    words = ("--json", tmp_path / "boxes.json", "--count", count, "--output", output)
    status, _, error = tool(TOOL, *words)
    assert status == 2 and message in error and error.count("\n") == 1
    assert not output.exists()
