"""Labels to objects: components of a label, and the converter."""

import json

import numpy as np
import pytest

from tests.data.converters import SCRIPTS
from tests.tiny import SIZE, write_dataset
from wsis.data.source import load_source
from wsis.layers.components import components
from wsis.structures.pseudo_labels import write_label
from wsis.structures.rle import decode_mask


def test_components_are_by_class_and_touch_at_corners():
    label = np.array([[2, 0, 1, 1], [0, 2, 255, 1], [1, 0, 0, 0]], dtype=np.uint8)
    found, small = components(label, 0)
    assert [(number, int(mask.sum())) for number, mask in found] == [(1, 3), (1, 1), (2, 2)]
    assert small == 0
    assert [number for number, _ in components(label, 2 / 12)[0]] == [1, 2]
    assert components(label, 2 / 12)[1] == 1
    assert components(np.full((3, 3), 255, np.uint8), 0) == ([], 0)


@pytest.fixture
def convert(tmp_path, tool):
    """``convert(labels)``: status, document or None, output and errors; labels are by image number."""
    data, out = tmp_path / "data", tmp_path / "out.json"
    write_dataset(data)

    def run(labels, *words):
        for number, label in labels.items():
            write_label(tmp_path / f"made/y/{number}.png", label)
        words = ("--json", data / "boxes.json", "--labels", tmp_path / "made/y", *words)
        status, said, err = tool(SCRIPTS / "prepare_instances.py", *words, "--output", out)
        return status, json.loads(out.read_text()) if out.exists() else None, said, err

    return run


def test_an_object_for_each_component(convert, tmp_path):
    label = np.zeros((SIZE, SIZE), dtype=np.uint8)
    label[:20, :10], label[30:50, 40:60], label[60:, 60:] = 2, 1, 1
    status, document, said, err = convert({1: label, 3: np.zeros_like(label)})
    assert (status, err) == (0, "")
    assert [image["id"] for image in document["images"]] == [1, 3]
    assert [(a["category_id"], a["bbox"]) for a in document["annotations"]] == [
        (3, [40, 30, 20, 20]),
        (7, [0, 0, 10, 20]),
    ]
    assert (decode_mask(document["annotations"][1]["segmentation"]) == (label == 2)).all()
    assert "2 images left out: no label" in said and "1 component left out: below 0.01" in said
    assert load_source(tmp_path / "out.json").class_names == ["wide", "tall"]


@pytest.mark.parametrize(
    ("label", "words", "line"),
    [
        (np.zeros((SIZE, SIZE), np.uint8), (), "found no object in 1 label of 4 images"),
        (np.full((SIZE, SIZE), 3, np.uint8), (), "found the value 3, expected 0 to 2 or 255"),
        (np.ones((9, 9), np.uint8), (), "9"),
        (np.ones((SIZE, SIZE), np.uint8), ("--min-area", 1.5), "--min-area"),
    ],
)
def test_what_makes_no_objects(convert, label, words, line):
    status, document, _, err = convert({2: label}, *words)
    assert (status, document) == (2, None)
    assert line in err and len(err.strip().splitlines()) == 1 or "usage" in err
