"""What other readers of COCO JSON take is taken, and what that leaves out or guesses is one counted line."""

import json
import logging
import math
import re

import pytest
from PIL import Image

from tests.data.builders import changed, coco, write_json
from wsis.data.dicts import check_masks, to_dicts
from wsis.data.inspection import inspect_file
from wsis.data.source import check_document, load_source
from wsis.data.tidy import tidy
from wsis.errors import DataError

MASK = [[2, 2, 9, 2, 9, 8, 5, 9]]
DOCUMENT = coco(
    {"bbox": [2, 2, 7, 7], "area": 40, "iscrowd": 0, "segmentation": MASK},
    {"bbox": [1, 1, 5, 5], "image_id": 2, "category_id": 4, "area": 25, "iscrowd": 0},
    images=2,
)


@pytest.fixture
def read(tmp_path, caplog):
    """``read(document)``: the source of a document whose images are there, and the lines about it."""
    (tmp_path / "images").mkdir()
    for name in ("1.png", "2.png"):
        Image.new("RGB", (12, 10)).save(tmp_path / "images" / name)

    def load(document):
        caplog.clear()
        path = write_json(tmp_path / "a.json", document)
        with caplog.at_level(logging.WARNING):
            source = load_source(path, tmp_path / "images")
        assert all(message.startswith(f"{path}: ") for message in caplog.messages)
        report = inspect_file(path, tmp_path / "images")
        assert report.problems == [] and set(caplog.messages) <= set(report.notes)
        return source, [message.removeprefix(f"{path}: ") for message in caplog.messages]

    return load


def everywhere(form):
    """The document with every whole number in another form."""
    return json.loads(json.dumps(DOCUMENT), parse_int=form)


def test_a_file_in_form_stays_as_it_is():
    document, remarks = tidy(DOCUMENT, "")
    assert remarks == [] and document == DOCUMENT
    assert list(map(list, document["annotations"])) == list(map(list, DOCUMENT["annotations"]))


AT = ("annotations", 0)
SILENT = {
    "numbers of a table": everywhere(float),
    "references as text": changed(changed(DOCUMENT, (*AT, "image_id"), "1"), (*AT, "id"), "1"),
    "text ids and a number that refers to one": coco(
        {"bbox": [2, 2, 7, 7]},
        images=[{"id": "1", "file_name": "1.png", "height": 10, "width": 12}],
    ),
    "names that are numbers": coco({"bbox": [2, 2, 7, 7]}, categories={1: 0, 2: 1}),
    "classes by text": changed(
        changed(DOCUMENT, ("categories", 0, "id"), "9"), (*AT, "category_id"), "9"
    ),
    "a flag": changed(DOCUMENT, (*AT, "iscrowd"), False),
    "no flag": changed(DOCUMENT, (*AT, "iscrowd"), None),
    "a gap of a table": changed(DOCUMENT, (*AT, "iscrowd"), math.nan),
    "a flat polygon": changed(DOCUMENT, (*AT, "segmentation"), MASK[0]),
    "numbers in quotes": changed(DOCUMENT, (*AT, "bbox"), ["2", "2", "7", "7.0"]),
    "a box as text": changed(DOCUMENT, (*AT, "bbox"), "[2, 2, 7, 7]"),
    "a mask as text": changed(DOCUMENT, (*AT, "segmentation"), json.dumps(MASK)),
    "points in pairs": changed(
        DOCUMENT, (*AT, "segmentation"), [[MASK[0][i : i + 2] for i in range(0, len(MASK[0]), 2)]]
    ),
    "an area in quotes": changed(DOCUMENT, (*AT, "area"), "40"),
    "no mask": changed(DOCUMENT, (*AT, "segmentation"), {}),
    "a rotation of what has a mask": changed(DOCUMENT, (*AT, "attributes"), {"rotation": 30.0}),
    "nothing to be ignored": changed(DOCUMENT, (*AT, "ignore"), "0"),
    "a box that is not rotated": changed(
        DOCUMENT, ("annotations", 1, "attributes"), {"rotation": 180.0}
    ),
    "no score": changed(DOCUMENT, (*AT, "score"), None),
    "sizes as text": changed(DOCUMENT, ("images", 0, "height"), "10"),
    "categories nobody uses": coco({"bbox": [2, 2, 7, 7]}, categories={9: "cat", 0: "placeholder"}),
}


@pytest.mark.parametrize("document", SILENT.values(), ids=SILENT)
def test_what_has_one_meaning_is_taken_in_silence(read, document):
    source, lines = read(document)
    assert lines == []
    assert len(source.annotations) == len(document["annotations"])
    first = to_dicts(source, "mask")[0]["annotations"][0]
    assert first["bbox"] == [2, 2, 9, 9] and first["iscrowd"] == 0 and isinstance(first["id"], int)
    assert first.get("segmentation", MASK) == MASK
    assert all(isinstance(name, str) for name in source.class_names)


ORPHANS = [{"id": i, "image_id": 70 + i, "category_id": 9, "bbox": [1, 1, 2, 2]} for i in (8, 9)]
TOLD = {
    "specks": (
        changed(
            DOCUMENT, (*AT, "segmentation"), [*MASK, [1, 1], [1, 1, 2, 2], [1, 1, 2, 2, 3, 3, 4]]
        ),
        [
            "3 polygons have less than three points, or a number too few: left out of their masks, .* 1"
        ],
    ),
    "nothing but specks": (
        changed(DOCUMENT, (*AT, "segmentation"), [[]]),
        ["1 polygon has less", "1 annotation has no other polygon and so no mask, .* annotation 1"],
    ),
    "orphans": (
        changed(DOCUMENT, ("annotations",), [*DOCUMENT["annotations"], *ORPHANS]),
        ["2 annotations are of images that the file does not list: left out, .* annotation 8"],
    ),
    "names for ids": (
        changed(changed(DOCUMENT, (*AT, "image_id"), "1.png"), ("annotations", 1, "image_id"), "2"),
        ["1 annotation names the file of its image for image_id"],
    ),
    "ids that are no numbers": (
        changed(changed(DOCUMENT, (*AT, "id"), "a7"), ("annotations", 1, "id"), "b7"),
        ["2 annotations have no number for an id: counted from 1, the first is annotation 'a7'"],
    ),
    "area null": (
        changed(DOCUMENT, (*AT, "area"), None),
        ["1 annotation has an area that is no number: computed"],
    ),
    "area as text": (changed(DOCUMENT, (*AT, "area"), "big"), ["1 annotation has an area"]),
    "area below 0": (changed(DOCUMENT, (*AT, "area"), -1), ["1 annotation has an area"]),
    "names of classes": (
        changed(DOCUMENT, (*AT, "category_id"), "cat"),
        ["1 annotation names a class for category_id"],
    ),
    "no box": (
        changed(changed(DOCUMENT, (*AT, "bbox"), ...), (*AT, "area"), ...),
        ["1 annotation has no box: the one around the mask is taken, the first is annotation 1"],
    ),
    "rotated, by CVAT": (
        changed(DOCUMENT, ("annotations", 1, "attributes"), {"rotation": 30.0, "occluded": False}),
        ["1 annotation has a rotated box: the upright box around it is taken, .* annotation 2"],
    ),
    "marked to be ignored": (
        changed(DOCUMENT, ("annotations", 1, "ignore"), 1),
        ["1 annotation has the mark 'ignore': taken as crowds, the first is annotation 2"],
    ),
    "no number for an id": (
        changed(changed(DOCUMENT, (*AT, "id"), None), ("annotations", 1, "id"), None),
        ["2 annotations have no number for an id: counted from 1, the first is annotation None"],
    ),
    "a class that is listed again": (
        changed(DOCUMENT, ("categories",), DOCUMENT["categories"] + DOCUMENT["categories"][:1]),
        ["1 class is listed again with the same id and name; each counts once"],
    ),
    **{
        f"a size of {size}": (
            changed(DOCUMENT, ("images", 0, "width"), size),
            ["1 image has no height and width here: taken from the image files"],
        )
        for size in (0, None, ..., "", math.nan)
    },
    "an image that is listed again": (
        changed(DOCUMENT, ("images",), [*DOCUMENT["images"], DOCUMENT["images"][0]]),
        ["1 image is listed again with the same id and file; each counts once"],
    ),
}


@pytest.mark.parametrize(("document", "expected"), TOLD.values(), ids=TOLD)
def test_what_is_left_out_or_guessed_is_counted(read, document, expected):
    source, lines = read(document)
    assert len(lines) == len(expected)
    for line, text in zip(lines, expected, strict=True):
        assert re.match(text, line), line
    assert [a["id"] for a in source.annotations] == [1, 2]
    assert [(i["height"], i["width"]) for i in source.images] == [(10, 12)] * 2
    assert [len(source.annotations_of(i["id"])) for i in source.images] == [1, 1]
    check_masks(source)


def test_an_image_without_size_that_cannot_be_read_is_left_out(read, tmp_path):
    document = changed(DOCUMENT, ("images", 1, "height"), 0)
    (tmp_path / "images/2.png").write_bytes(b"no image")
    source, (line,) = read(document)
    assert line.startswith("1 image has no height and width here and cannot be read: left out with")
    assert [a["id"] for a in source.annotations] == [1]


CURED = {
    "ids of categories as text": (
        ("categories", 0, "id"),
        "nine",
        "found 'nine', .*; write ids as whole",
    ),
    "a class that is not there": (("annotations", 0, "category_id"), 77, "; add the class to"),
    "half a box": (
        ("annotations", 0, "bbox"),
        [1, 2],
        r"; write \[x, y, width, height\] in pixels",
    ),
    "an id that is there twice": (("annotations", 0, "id"), 2, "occurs twice; number them 1, 2"),
    "a bad box": (("annotations", 0, "bbox"), [1, 2, 0, 4], "; set DATASETS.BAD_BOX skip"),
    "a name that leaves the folder": (
        ("images", 0, "file_name"),
        "../x.png",
        "; write names relat",
    ),
}


@pytest.mark.parametrize(("place", "value", "text"), CURED.values(), ids=CURED)
def test_every_refusal_names_its_cure(tmp_path, place, value, text):
    (tmp_path / "images").mkdir()
    path = write_json(tmp_path / "a.json", changed(DOCUMENT, place, value))
    with pytest.raises(DataError, match=text):
        load_source(path, tmp_path / "images")
    report = inspect_file(path, tmp_path / "images")
    assert report.exit_status == 2 and len(report.problems) == 1


def test_equal_causes_are_one_line_and_nothing_follows_from_them(tmp_path):
    document = coco(*({"bbox": [1, 2, 0, 4 + i]} for i in range(5)), {"bbox": 3, "category_id": 4})
    (report, two) = (
        inspect_file(write_json(tmp_path / "a.json", each))
        for each in (document, changed(document, ("annotations", 5, "category_id"), 5))
    )
    assert [line.count("(and 4 more like it)") for line in report.problems] == [1, 0]
    assert not [note for note in report.notes if "without an annotation" in note]
    assert len(two.problems) == 3


def test_masks_of_another_size_are_counted():
    document = coco(
        *({"bbox": [2, 2, 7, 7], "segmentation": {"size": [9, 9], "counts": "0"}} for _ in range(3))
    )
    source = check_document(document, "a.json", "", "")
    with pytest.raises(DataError, match=r"size \[9, 9\].*; write polygons .* \(and 2 more masks\)"):
        check_masks(source)
