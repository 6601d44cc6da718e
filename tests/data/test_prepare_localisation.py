"""Data sets of localisation: tags to learn from, boxes or masks to judge by, images held out for choices."""

import numpy as np
import pytest

from tests.data.converters import HEIGHT, WIDTH, prepare, read
from wsis.data.dicts import to_dicts
from wsis.data.localisation_sets import Entry, hold_out
from wsis.data.source import check_document
from wsis.structures.rle import decode_mask

SPLITS = ("train", "val", "test")


def names(document):
    return [image["file_name"] for image in document["images"]]


@pytest.fixture
def make(tmp_path):
    def made(name, *arguments):
        prepare(name, tmp_path, *arguments)
        found = {split: read(tmp_path, f"{name}_{split}") for split in SPLITS}
        for document in found.values():
            source = check_document(document, name, "", "", need_boxes=False)
            for record in to_dicts(source, "image"):
                assert len(record["image_labels"]) == 1
        return found

    return made


def test_cub(make):
    found = make("cub", "--held-out", "1")
    assert [c["name"] for c in found["test"]["categories"]] == ["001.Auk", "002.Gull"]
    birds = ("001.Auk", "002.Gull")
    assert names(found["train"]) == [f"train/{b}/{k}.jpg" for b in birds for k in range(3)]
    assert names(found["val"]) == [f"train/{b}/3.jpg" for b in birds]
    assert found["train"]["annotations"] == []
    assert names(found["test"]) == ["test/002.Gull/9.jpg", "test/001.Auk/9.jpg"]
    first, second = found["test"]["annotations"]
    assert first["bbox"] == [10, 5, 20, 20] and first["category_id"] == 2
    assert second["bbox"] == [1.5, 2, 20, 30] and second["image_id"] == 2
    image = found["test"]["images"][0]
    assert (image["height"], image["width"], image["image_labels"]) == (HEIGHT, WIDTH, [2])


def test_ilsvrc(make):
    found = make("ilsvrc_loc", "--held-out", "2")
    assert len(found["train"]["images"]) == len(found["val"]["images"]) == 4
    assert names(found["test"]) == ["val/n02/n02_val.JPEG", "val/n01/n01_val.JPEG"]
    boxes = [a["bbox"] for a in found["test"]["annotations"]]
    assert boxes == [[3, 4, 10, 20], [1, 2, 10, 10], [20, 20, 10, 20]]


def test_openimages(make):
    found = make("openimages30k")
    assert [names(found[split]) for split in SPLITS] == [
        [f"{s}/0.jpg", f"{s}/1.jpg"] for s in SPLITS
    ]
    for split in ("val", "test"):
        annotations = found[split]["annotations"]
        assert [a["bbox"] for a in annotations] == [[2, 2, 8, 8], [2, 2, 8, 8], [20, 20, 10, 10]]
        void = decode_mask(found[split]["images"][1]["void"])
        expected = np.zeros((HEIGHT, WIDTH), bool)
        expected[:, 25:40] = True
        expected[20:30, 20:30] = False
        assert (void == expected).all() and "void" not in found[split]["images"][0]


def test_no_more_than_half_of_a_class_is_held_out():
    entries = [Entry(f"{k}.jpg", label=k % 2) for k in range(7)]
    train, held = hold_out(entries, 5)
    assert [e.name for e in held] == ["4.jpg", "5.jpg", "6.jpg"]
    assert sorted(train + held, key=entries.index) == entries
    assert [sum(e.label == c for e in held) for c in (0, 1)] == [2, 1]
    assert hold_out(entries, 0) == (entries, [])
