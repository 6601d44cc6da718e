"""Standard dicts behind the supervision guard."""

import pytest
from detectron2.structures import BoxMode

from tests.data.builders import coco, source_of
from wsis.data.dicts import source_from_dicts, to_dicts
from wsis.errors import ConfigError, DataError

RLE = {"size": [10, 12], "counts": [10, 5, 105]}


@pytest.fixture
def make(tmp_path):
    """``make(info, void, **keys of the first annotation)``: a source; its second box is bad, the third a crowd's."""

    def source(info=None, void=None, **extra):
        others = ([0, 0, 0, 4], 0), ([0, 0, 2, 4], 1)
        crowds = ({"category_id": 4, "bbox": box, "iscrowd": crowd} for box, crowd in others)
        document = coco({"bbox": [-1, 2, 3, 4], **extra}, *crowds, info=info or {})
        document["images"][0] |= {"void": void} if void else {}
        return source_of(tmp_path, document, bad_box="skip")

    return source


def test_nothing_of_a_mask_passes(make):
    full = make(void=RLE, segmentation=[[1, 1]], area=3, keypoints=[1], score=0.5)
    with_masks = to_dicts(full, "box")
    assert with_masks == to_dicts(make(), "box")
    expected = {"id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 2, 2, 6]}
    assert with_masks[0]["annotations"][0] == {**expected, "bbox_mode": BoxMode.XYXY_ABS}


def test_bad_boxes_are_left_out_and_crowds_kept(make):
    record = to_dicts(make(), "box")[0]
    assert [a["id"] for a in record["annotations"]] == [1, 3]
    assert record["image_labels"] == [0, 1]


def test_of_tags_nothing_else_passes(tmp_path):
    """Boxes, sizes, their number and masks leave no trace; an image's own tags come before those of its objects."""
    objects = [{"category_id": 4, "bbox": [0, 0, 2, 2], "area": 4, "segmentation": RLE}]
    objects += [{"category_id": 4, "bbox": [1, 0, 1, 2]}, {"category_id": 9, "iscrowd": 1}]
    found = []
    for each in (objects, [{"category_id": 4}]):
        source = source_of(tmp_path, coco(*each), need_boxes=False)
        found.append(to_dicts(source, "image"))
    assert found[0] == found[1]
    assert found[0][0]["image_labels"] == [0]
    assert found[0][0]["annotations"] == [{"category_id": 0, "iscrowd": 0}]
    document = coco(*objects[:2])
    document["images"][0]["image_labels"] = [9]
    assert to_dicts(source_of(tmp_path, document), "image")[0]["image_labels"] == [1]
    document["images"][0]["image_labels"] = []
    assert to_dicts(source_of(tmp_path, document), "image")[0]["annotations"] == []


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ([4, 5], "5 is not among the categories"),
        ("dust", "found 'dust', expected a list of category ids"),
        ([4.0], "4.0 is not among the categories"),
    ],
)
def test_tags_that_no_class_has(tmp_path, tags, text):
    document = coco()
    document["images"][0]["image_labels"] = tags
    with pytest.raises(DataError, match=rf"image 1: key 'image_labels': {text}"):
        source_of(tmp_path, document)


def test_class_agnostic(make):
    record = to_dicts(make(), "box", class_agnostic=True)[0]
    assert {a["category_id"] for a in record["annotations"]} == {0}
    assert record["image_labels"] == [0]


def test_masks_pass_where_they_may(make):
    extra = {"segmentation": RLE, "ignore_segmentation": RLE, "score": 0.25}
    annotation = to_dicts(make(**extra), "mask")[0]["annotations"][0]
    assert {key: annotation[key] for key in extra} == extra
    with pytest.raises(ConfigError, match=r"a\.json has no info\.wsis"):
        to_dicts(make(**extra), "proxy")
    assert to_dicts(make(info={"wsis": {}}, **extra), "proxy")
    with pytest.raises(ConfigError, match="found 'boxes', expected one of box, image"):
        to_dicts(make(), "boxes")


@pytest.mark.parametrize("bad", [[["x", 1, 2, 3, 4, 5]], {"size": [3, 3], "counts": "0"}])
def test_a_malformed_mask_is_named_where_it_is_used(make, bad):
    source = make(segmentation=bad)
    assert to_dicts(source, "box")
    with pytest.raises(DataError, match=r"a\.json: annotation 1: key 'segmentation'"):
        to_dicts(source, "mask")


def test_datasets_registered_from_python_take_the_same_way():
    record = {"image_id": "x", "file_name": "/data/a.png", "height": 10, "width": 12}
    annotations = [
        {"bbox": [1, 2, 5, 6], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1},
        {"bbox": [1, 2, 5, 6], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0},
    ]
    source = source_from_dicts("mine", [{**record, "annotations": annotations}], ["a", "b"])
    assert [a["bbox"] for a in source.annotations] == [[1, 2, 4, 4], [1, 2, 5, 6]]
    assert [a["id"] for a in source.annotations] == [1, 2]
    assert to_dicts(source, "box")[0]["annotations"][0]["bbox"] == [1, 2, 5, 6]
    assert source.path_of(source.images[0]) == "/data/a.png"
    with pytest.raises(DataError, match="dataset mine: image number 0: key 'height' is missing"):
        source_from_dicts("mine", [{"image_id": 1, "file_name": "a"}], ["a"])
