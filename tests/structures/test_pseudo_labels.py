import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsis.errors import DataError
from wsis.structures.pseudo_labels import label_path, voc_palette, write_label, write_manifest


def test_the_palette_is_vocs():
    colours = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 15: (192, 128, 128)}
    known |= {8: (64, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(colours[label]) == colour
    assert len({tuple(colour) for colour in colours}) == 256


def test_a_label_comes_back_as_it_was_and_gives_the_same_bytes(tmp_path):
    label = np.arange(256, dtype=np.uint8).reshape(8, 32)
    path = tmp_path / "y" / "sub" / "a.png"
    write_label(path, label)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert bytes(image.getpalette()) == voc_palette()
        assert np.array_equal(np.asarray(image), label)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    write_label(tmp_path / "b.png", label)
    assert path.read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("a.jpg", "f/y/a.png"),
        ("sub/a.b.jpg", "f/y/sub/a.b.png"),
        ("./x/../a", "f/y/a.png"),
        ("/data/sub/a.jpg", "f/y/data/sub/a.png"),
    ],
)
def test_where_a_label_lies(file_name, expected):
    assert label_path("f", "y", file_name) == Path(expected)


@pytest.mark.parametrize("file_name", ["../a.jpg", "x/../../a.jpg", ".", ""])
def test_no_label_lies_outside(file_name):
    with pytest.raises(DataError, match="would not lie inside f"):
        label_path("f", "y", file_name)


def test_manifest(tmp_path):
    write_manifest(tmp_path, {"method": "M"}, ("y",), ["cat", "dog"])
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        "wsis": {"method": "M"},
        "labels": ["y"],
        "classes": ["background", "cat", "dog"],
        "ignore": 255,
    }
