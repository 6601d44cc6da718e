"""A folder per class to image tags."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TOOLS
from tests.data.builders import save_turned

SCRIPT = TOOLS.parent / "datasets" / "prepare_image_folder.py"


@pytest.fixture
def root(tmp_path):
    for name in ("001.Dog/a.png", "001.Dog/deep/b.JPG", "bird/a.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (30, 20)).save(path)
    save_turned(tmp_path / "images/bird/c.jpg", np.zeros((20, 30, 3), dtype=np.uint8), 6)
    (tmp_path / "images/.cache").mkdir()
    (tmp_path / "images/.cache/x.png").touch()
    (tmp_path / "images/bird/list.txt").touch()
    return tmp_path / "images"


def test_tags_of_folders(root, tmp_path, tool):
    status, text, _ = tool(SCRIPT, "--images", root, "--output", tmp_path / "tags.json")
    assert status == 0
    assert "note: 1 file left out" in text and "tags.json: 4 images, 2 classes" in text
    document = json.loads((tmp_path / "tags.json").read_text())
    assert [c["name"] for c in document["categories"]] == ["001.Dog", "bird"]
    found = {i["file_name"]: (i["image_labels"], i["height"]) for i in document["images"]}
    assert found == {
        "001.Dog/a.png": ([1], 20),
        "001.Dog/deep/b.JPG": ([1], 20),
        "bird/a.png": ([2], 20),
        "bird/c.jpg": ([2], 30),
    }


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "empty").mkdir(), "empty: no image in this folder"),
        (lambda root: root.rename(root.parent / "other"), "images: no such folder, expected one"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(root, tmp_path, tool, spoil, message):
    spoil(root)
    status, _, error = tool(SCRIPT, "--images", root, "--output", tmp_path / "tags.json")
    assert status == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "tags.json").exists()


def test_an_image_that_cannot_be_read_is_left_out_and_counted(root, tmp_path, tool, caplog):
    (root / "bird/a.png").write_text("no image")
    status, text, _ = tool(SCRIPT, "--images", root, "--output", tmp_path / "tags.json")
    assert status == 0 and "tags.json: 3 images, 2 classes" in text
    assert "1 image cannot be read, the first: " in caplog.text
    for path in (path for path in root.rglob("*.*") if path.is_file()):
        path.write_text("no image")
    status, _, error = tool(SCRIPT, "--images", root, "--output", tmp_path / "none.json")
    assert status == 2 and "images: 4 images cannot be read" in error
