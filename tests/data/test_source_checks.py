"""All that is wrong with a file at once: the same rules that the reader raises one by one."""

from __future__ import annotations

import copy

import pytest

from wsis.data.source import check_document
from wsis.data.source_checks import document_problems, show
from wsis.errors import DataError

GOOD = {
    "images": [
        {"id": 1, "file_name": "a.png", "height": 10, "width": 12},
        {"id": 2, "file_name": "b.png", "height": 8, "width": 8},
    ],
    "categories": [{"id": 9, "name": "cat"}],
    "annotations": [
        {"id": 11, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]},
        {"id": 12, "image_id": 2, "category_id": 9, "bbox": [0, 0, 4.5, 4]},
    ],
}


def texts(document, **options):
    options = {"need_boxes": True, **options}
    return [problem.text for problem in document_problems(document, "a.json", "images", **options)]


@pytest.fixture
def document():
    return copy.deepcopy(GOOD)


def test_a_good_file_has_no_problem(document):
    assert texts(document) == []


def test_every_breach_is_told_in_the_order_of_the_file(document):
    document["categories"].append({"id": 9, "name": ""})
    document["images"][1].update(file_name="../b.png", width=0)
    document["annotations"][0].update(category_id=5, iscrowd=2, score=7, bbox=[1, 2, 3])
    document["annotations"][1].update(bbox=[1, 1, 0, 1], image_id=3)
    assert texts(document) == [
        "a.json: category id 9 occurs twice",
        "a.json: category 9: key 'name': found '', expected text",
        "a.json: image 2: key 'file_name': '../b.png' leaves the image folder images",
        "a.json: image 2: key 'width': found 0, expected a positive integer",
        "a.json: annotation 11: key 'category_id': 5 is not among the categories",
        "a.json: annotation 11: key 'iscrowd': found 2, expected 0 or 1",
        "a.json: annotation 11: key 'score': found 7, expected a number from 0 to 1",
        "a.json: annotation 11: key 'bbox': found [1, 2, 3], expected four finite numbers x, y, width, height",
        "a.json: annotation 12: key 'image_id': 3 is not among the images",
        "a.json: annotation 12: key 'bbox': [1, 1, 0, 1] has no area, expected width and height above 0",
    ]


def test_what_only_follows_is_not_told_again(document):
    document["images"][0]["height"] = "ten"  # its boxes cannot be compared with it
    document["annotations"][0]["bbox"] = [50, 50, 2, 2]
    assert len(texts(document)) == 1
    document["categories"] = []  # no annotation has a category then
    assert len(texts(document)) == 2
    document["images"] = {}
    assert texts(document) == ["a.json: key 'images': expected a list of objects, found {}"]


def test_the_reader_raises_the_first_and_bad_boxes_last(document):
    document["annotations"][0]["bbox"] = [1, 2, 0, 4]
    document["annotations"][1]["score"] = -1
    problems = list(document_problems(document, "a.json", "", True))
    assert [problem.bad_box for problem in problems] == [11, None]
    with pytest.raises(DataError) as caught:
        check_document(document, "a.json", "", "")
    assert str(caught.value) == problems[1].text
    del document["annotations"][1]["score"]
    with pytest.raises(DataError, match="has no area.*DATASETS.BAD_BOX skip"):
        check_document(document, "a.json", "", "")


@pytest.mark.parametrize(
    ("key", "value"),
    [("bbox", [10**400, 0, 1, 1]), ("score", 10**400), ("image_id", True), ("image_id", {})],
)
def test_values_that_no_comparison_survives_are_named(document, key, value):
    document["annotations"][0][key] = value
    (text,) = texts(document)
    assert f"annotation 11: key '{key}'" in text


def test_items_without_id_go_by_their_position(document):
    del document["annotations"][1]["id"]
    document["annotations"][1]["category_id"] = 4
    assert texts(document) == [
        "a.json: annotation number 1: key 'id': found None, expected an integer of 64 bits",
        "a.json: annotation number 1: key 'category_id': 4 is not among the categories",
    ]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_ids_that_no_array_holds_are_named(document, number):
    document["annotations"][1]["id"] = number
    (text,) = texts(document)
    assert "annotation number 1: key 'id': found" in text
    assert text.endswith("expected an integer of 64 bits")
    document["annotations"][1]["id"] = 2**63 - 1
    assert texts(document) == []


def test_found_values_are_short_and_of_one_line():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    for value in ("x" * 500, "a\nb", list(range(50)), nested, 10**5000, {"k": "v" * 99}):
        assert len(show(value)) <= 80 and "\n" not in show(value)
