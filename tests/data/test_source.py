"""The strict COCO reader: whatever is wrong, one line names the file, the id and the key."""

from __future__ import annotations

import copy
import json

import pytest

from wsis.data.source import load_source
from wsis.errors import DataError

GOOD = {
    "info": {"description": "test"},
    "images": [
        {"id": 1, "file_name": "a.png", "height": 10, "width": 12},
        {"id": "two", "file_name": "sub/b.png", "height": 8, "width": 8},
    ],
    "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}],
    "annotations": [
        {"id": 11, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]},
        {"id": 12, "image_id": "two", "category_id": 4, "bbox": [-2, 0, 4.5, 4], "iscrowd": 1},
        {
            "id": 10,
            "image_id": 1,
            "category_id": 4,
            "bbox": [11, 9, 5, 5],
            "segmentation": [[1, 1]],
        },
    ],
}


def load(tmp_path, document, **options):
    path = tmp_path / "a.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    (tmp_path / "images").mkdir(exist_ok=True)
    return load_source(path, tmp_path / "images", **options)


def test_a_good_file_is_kept_as_it_is(tmp_path):
    source = load(tmp_path, GOOD)
    assert source.annotations == GOOD["annotations"]
    assert source.class_names == ["dog", "cat"]
    assert source.id_to_contiguous == {4: 0, 9: 1}
    assert [a["id"] for a in source.annotations_of(1)] == [11, 10]
    assert source.path_of(source.images[1]).endswith("images/sub/b.png")
    assert source.has_masks
    assert not source.bad_boxes
    assert len(source.sha256) == 64


def test_boxes_only_and_crowd_masks_do_not_count_as_masks(tmp_path):
    document = copy.deepcopy(GOOD)
    document["annotations"][1]["segmentation"] = document["annotations"][2].pop("segmentation")
    assert not load(tmp_path, document).has_masks


def change(path, value):
    """The good document with one place set to a value; ``...`` removes it."""
    document = copy.deepcopy(GOOD)
    node = document
    for key in path[:-1]:
        node = node[key]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return document


ANNOTATION = ("annotations", 0)
BAD = [
    (("categories",), [], "key 'categories': the list is empty"),
    (("categories",), ..., "key 'categories': expected a list"),
    (("images",), {}, "key 'images': expected a list"),
    (("annotations",), [1], "key 'annotations': expected a list of objects"),
    ((*ANNOTATION, "bbox"), ..., "annotation 11: key 'bbox': found None"),
    ((*ANNOTATION, "bbox"), "1 2 3 4", "annotation 11: key 'bbox': found '1 2 3 4'"),
    ((*ANNOTATION, "bbox"), [1, 2, "3", 4], "annotation 11: key 'bbox'"),
    ((*ANNOTATION, "bbox"), [1, 2, float("nan"), 4], "annotation 11: key 'bbox': .*finite"),
    ((*ANNOTATION, "bbox"), [1, 2, float("inf"), 4], "annotation 11: key 'bbox': .*finite"),
    ((*ANNOTATION, "bbox"), [1, 2, 1e308, 1e308], "annotation 11: key 'bbox': .*finite .*area"),
    ((*ANNOTATION, "bbox"), [1e308, 2, 1e308, 4], "annotation 11: key 'bbox': .*finite far"),
    ((*ANNOTATION, "bbox"), [1, 2, True, 4], "annotation 11: key 'bbox'"),
    ((*ANNOTATION, "bbox"), [1, 2, 3], "annotation 11: key 'bbox': .*expected four"),
    ((*ANNOTATION, "bbox"), [1, 2, -3, 4], "annotation 11: key 'bbox': .*has no area"),
    ((*ANNOTATION, "bbox"), [1, 2, 0, 4], "annotation 11: key 'bbox': .*has no area"),
    ((*ANNOTATION, "bbox"), [12, 2, 3, 4], "annotation 11: .*wholly outside its 12x10 image"),
    ((*ANNOTATION, "bbox"), [-3, 2, 3, 4], "annotation 11: .*wholly outside"),
    ((*ANNOTATION, "category_id"), 5, "annotation 11: key 'category_id': 5 is not among"),
    ((*ANNOTATION, "category_id"), "9", "annotation 11: key 'category_id'"),
    ((*ANNOTATION, "image_id"), 3, "annotation 11: key 'image_id': 3 is not among"),
    ((*ANNOTATION, "image_id"), [1], "annotation 11: key 'image_id'"),
    ((*ANNOTATION, "id"), 12, "annotation id 12 occurs twice"),
    ((*ANNOTATION, "id"), "x", "annotation number 0: key 'id': found 'x'"),
    ((*ANNOTATION, "iscrowd"), 2, "annotation 11: key 'iscrowd': found 2"),
    ((*ANNOTATION, "score"), 1.5, "annotation 11: key 'score': found 1.5"),
    (("images", 1, "id"), 1, "image id 1 occurs twice"),
    (("images", 0, "height"), 0, "image 1: key 'height': found 0"),
    (("images", 0, "width"), "12", "image 1: key 'width': found '12'"),
    (("images", 0, "width"), ..., "image 1: key 'width': found None"),
    (("images", 0, "file_name"), "../a.png", "image 1: key 'file_name': .*leaves the image folder"),
    (("images", 0, "file_name"), "x/../../a.png", "leaves the image folder"),
    (("images", 0, "file_name"), "/etc/a.png", "leaves the image folder"),
    (("images", 0, "file_name"), "C:\\a.png", "leaves the image folder"),
    (("images", 0, "file_name"), "..\\a.png", "leaves the image folder"),
    (("images", 0, "file_name"), "", "image 1: key 'file_name'"),
    (("categories", 0, "id"), 4, "category id 4 occurs twice"),
    (("categories", 0, "name"), 3, "category 9: key 'name': found 3"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_what_is_wrong_is_named(tmp_path, path, value, message):
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path, change(path, value))
    assert str(error.value).startswith(str(tmp_path / "a.json"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [json.dumps(GOOD)[:-20], "", "nonsense", "[" * 100_000])
def test_a_torn_file(tmp_path, text):
    with pytest.raises(DataError, match=r"a\.json: not valid JSON"):
        load(tmp_path, text)


@pytest.mark.parametrize("document", [[], "text", 3, None])
def test_a_file_that_is_no_object(tmp_path, document):
    with pytest.raises(DataError, match="expected an object"):
        load(tmp_path, json.dumps(document))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json: cannot be read"):
        load_source(tmp_path / "absent.json")
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    with pytest.raises(DataError, match="nowhere: no such image folder"):
        load_source(tmp_path / "a.json", tmp_path / "nowhere")


def test_bad_boxes_can_be_left_out(tmp_path):
    document = change((*ANNOTATION, "bbox"), [1, 2, 0, 4])
    source = load(tmp_path, document, bad_box="skip")
    assert source.bad_boxes == {11}
    with pytest.raises(DataError, match="DATASETS.BAD_BOX skip"):
        load(tmp_path, document)


def test_tags_need_no_boxes(tmp_path):
    document = change((*ANNOTATION, "bbox"), ...)
    assert len(load(tmp_path, document, need_boxes=False).annotations) == 3


def test_absolute_names_only_without_a_root(tmp_path):
    document = change(("images", 0, "file_name"), str(tmp_path / "x.png"))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    source = load_source(path)
    assert source.path_of(source.images[0]) == str(tmp_path / "x.png")
