"""The strict COCO reader: whatever is wrong, one line names the file, the id and the key."""

import copy
import json
import math

import pytest

from tests.data.builders import changed, coco, source_of, write_json
from wsis.data.source import check_document, load_source
from wsis.data.source_checks import document_problems
from wsis.data.values import show
from wsis.errors import DataError

IMAGES = [
    {"id": 1, "file_name": "a.png", "height": 10, "width": 12},
    {"id": "two", "file_name": "sub/b.png", "height": 8, "width": 8},
]
GOOD = coco(
    {"id": 11, "bbox": [1, 2, 3, 4]},
    {"id": 12, "image_id": "two", "category_id": 4, "bbox": [-2, 0, 4.5, 4], "iscrowd": 1},
    {"id": 10, "category_id": 4, "bbox": [11, 9, 5, 5], "segmentation": [[1, 1, 5, 1, 5, 5]]},
    images=IMAGES,
)
TWO = coco(
    {"id": 11, "bbox": [1, 2, 3, 4]}, {"id": 12, "image_id": 2, "bbox": [0, 0, 4.5, 4]}, images=2
)


def test_a_good_file_is_kept_as_it_is(tmp_path):
    source = source_of(tmp_path, GOOD)
    assert source.annotations == GOOD["annotations"]
    assert source.class_names == ["dog", "cat"]
    assert source.id_to_contiguous == {4: 0, 9: 1}
    assert [a["id"] for a in source.annotations_of(1)] == [11, 10]
    assert source.path_of(source.images[1]) == str(tmp_path / "sub/b.png")
    assert source.has_masks
    assert not source.bad_boxes
    assert len(source.sha256) == 64


def test_boxes_only_and_crowd_masks_do_not_count_as_masks(tmp_path):
    document = copy.deepcopy(GOOD)
    document["annotations"][1]["segmentation"] = document["annotations"][2].pop("segmentation")
    assert not source_of(tmp_path, document).has_masks


BAD = {
    "categories": [
        *(([], "key 'categories': the list is empty"), (..., "key 'categories': expected a list"))
    ],
    "images": [({}, "key 'images': expected a list")],
    "annotations": [([1], "key 'annotations': expected a list of objects")],
    "annotations.0.bbox": [
        (..., "annotation 11: key 'bbox': found None"),
        ("1 2 3 4", "annotation 11: key 'bbox': found '1 2 3 4'"),
        *(([v, 0, 1, 1], "annotation 11: key 'bbox'") for v in ("x", True, 10**400)),
        ([1, 2, math.inf, 4], "11: key 'bbox': .*finite"),
        *((v, "11: key 'bbox': .*no area.*BAD_BOX skip") for v in ([], [1, 2, math.nan, 4])),
        ([1, 2, 1e308, 1e308], "annotation 11: key 'bbox': .*finite .*area"),
        ([1e308, 2, 1e308, 4], "annotation 11: key 'bbox': .*finite far"),
        ([1, 2, -3, 4], "annotation 11: key 'bbox': .*has no area"),
        ([1, 2, 0, 4], "annotation 11: key 'bbox': .*has no area.*DATASETS.BAD_BOX skip"),
        ([12, 2, 3, 4], "annotation 11: .*wholly outside its 12x10 image"),
        ([-3, 2, 3, 4], "annotation 11: .*wholly outside"),
    ],
    "annotations.0.category_id": [
        ("cow", "annotation 11: key 'category_id'.*; add the class to 'categories'"),
    ],
    "annotations.0.image_id": [(v, "annotation 11: key 'image_id'") for v in ([1], True, {})],
    "annotations.0.id": [
        (12, "annotation id 12 occurs twice"),
        ("x", "annotation number 0: key 'id': found 'x'"),
        (1.5, "annotation number 0: key 'id': found 1.5"),
        *(
            (v, "annotation number 0: key 'id': found .* expected an integer of 64 bits; write")
            for v in (2**63, -(2**63) - 1, 10**400)
        ),
    ],
    "annotations.0.score": [(10**400, "annotation 11: key 'score'")],
    "images.1.id": [(1, "image id 1 occurs twice")],
    "images.0.height": [(-1, "image 1: key 'height': found -1")],
    "images.0.width": [(v, f"image 1: key 'width': found {v!r}") for v in ("wide", 1.5)],
    "images.0.file_name": [
        *(
            (name, "image 1: key 'file_name': .*leaves the image folder")
            for name in ("x/../../a.png", "/etc/a.png", "C:\\a.png", "..\\a.png")
        ),
        ("", "image 1: key 'file_name'"),
    ],
    "categories.0.name": [("", "category 9: key 'name': found ''")],
}
PLACES = [
    (tuple(int(k) if k.isdigit() else k for k in place.split(".")), *case)
    for place, cases in BAD.items()
    for case in cases
]


@pytest.mark.parametrize(("path", "value", "message"), PLACES)
def test_what_is_wrong_is_named(tmp_path, path, value, message):
    document = changed(GOOD, path, value)
    with pytest.raises(DataError, match=message) as error:
        source_of(tmp_path, document)
    assert str(error.value).startswith(str(tmp_path / "a.json"))
    assert "\n" not in str(error.value)
    assert path[0] != "annotations" or len(texts(document)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, r"a\.json: not valid JSON") for text in ("nonsense", "[" * 100_000)),
        ("", "found an empty file.*; write or download"),
        (json.dumps(GOOD)[:-20], r"a\.json: not valid JSON"),
        *((text, "expected an object") for text in ("[]", '"text"', "3", "null")),
    ],
)
def test_a_torn_file_and_one_that_is_no_object(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        source_of(tmp_path, text)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json: cannot be read"):
        load_source(tmp_path / "absent.json")
    with pytest.raises(DataError, match="nowhere: no such image folder"):
        load_source(write_json(tmp_path / "a.json", GOOD), tmp_path / "nowhere")


def test_what_may_be_left_out(tmp_path):
    bbox = ("annotations", 0, "bbox")
    assert source_of(tmp_path, changed(GOOD, bbox, [1, 2, 0, 4]), bad_box="skip").bad_boxes == {11}
    tags = source_of(tmp_path, changed(GOOD, bbox, ...), need_boxes=False)
    assert len(tags.annotations) == 3
    largest = ("annotations", 0, "id")
    assert source_of(tmp_path, changed(GOOD, largest, 2**63 - 1)).annotations_of(1)


def test_absolute_names_only_without_a_root(tmp_path):
    document = changed(GOOD, ("images", 0, "file_name"), str(tmp_path / "x.png"))
    source = load_source(write_json(tmp_path / "a.json", document))
    assert source.path_of(source.images[0]) == str(tmp_path / "x.png")


def texts(document):
    return [problem.text for problem in document_problems(document, "a.json", "images")]


@pytest.fixture
def document():
    return copy.deepcopy(TWO)


def test_every_breach_is_told_in_the_order_of_the_file(document):
    assert texts(document) == []
    document["categories"][1] = {"id": 9, "name": 3}
    document["images"][1].update(file_name="../b.png", width=0)
    document["annotations"][0].update(category_id=5, iscrowd=2, score=7, bbox=[1, 2, 3])
    document["annotations"][1].update(bbox=[1, 1, 0, 1], image_id=3)
    assert texts(document) == [
        "a.json: category id 9 occurs twice",
        "a.json: category 9: key 'name': found 3, expected text",
        "a.json: image 2: key 'file_name': '../b.png' leaves the image folder images, which has no image of this name",
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
    problems = list(document_problems(document, "a.json", ""))
    assert [problem.bad_box for problem in problems] == [11, None]
    with pytest.raises(DataError) as caught:
        check_document(document, "a.json", "", "")
    assert (
        str(caught.value) == f"{problems[1].text}; write a number from 0 to 1, or leave the key out"
    )


def test_items_without_id_go_by_their_position(document):
    del document["annotations"][1]["id"]
    document["annotations"][1]["category_id"] = 5
    assert texts(document) == [
        "a.json: annotation number 1: key 'id': found None, expected an integer of 64 bits",
        "a.json: annotation number 1: key 'category_id': 5 is not among the categories",
    ]


def test_found_values_are_short_and_of_one_line():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    for value in ("x" * 500, "a\nb", list(range(50)), nested, 10**5000, {"k": "v" * 99}):
        assert len(show(value)) <= 80 and "\n" not in show(value)


@pytest.mark.parametrize(
    ("kind", "key", "other"),
    [
        ("images", "file_name", "filename"),
        ("annotations", "image_id", "imageId"),
        ("annotations", "category_id", "category"),
        ("annotations", "bbox", "box"),
    ],
)
def test_a_key_that_stands_for_a_missing_one_is_named(tmp_path, kind, key, other):
    document = copy.deepcopy(GOOD)
    for item in document[kind]:
        item[other] = item.pop(key)
    with pytest.raises(DataError, match=rf"key '{key}': .*\(but there is a key '{other}'\)"):
        source_of(tmp_path, document)
