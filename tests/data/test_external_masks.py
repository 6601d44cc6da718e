"""Masks of other tools find their boxes, and whatever contradicts them is named."""

import copy

import numpy as np
import pytest

from tests.data.builders import coco, write_json
from tests.masks import rectangle
from wsis.data.external_masks import join_masks
from wsis.data.source import check_document
from wsis.errors import ConfigError, DataError
from wsis.structures.rle import decode_mask, encode_mask

HEIGHT, WIDTH = 20, 30


def code(x, y, width=6, height=5):
    return encode_mask(rectangle((HEIGHT, WIDTH), x, y, x + width, y + height))


CROWD = {"image_id": 1, "segmentation": code(20, 10)}
# annotation id -> image, category, x, y
BOXES = {21: (1, 3, 2, 2), 22: (1, 5, 12, 2), 23: ("two", 3, 2, 10)}


def of_images(*annotations, images, categories):
    size = {"height": HEIGHT, "width": WIDTH}
    entries = [{"id": i, "file_name": name, **size} for i, name in images.items()]
    return coco(*annotations, images=entries, categories=categories)


@pytest.fixture
def document():
    """Two images; boxes of 6 x 5 pixels; a crowd."""
    boxes = (
        {"id": i, "image_id": image, "category_id": category, "bbox": [x, y, 6, 5], "iscrowd": 0}
        for i, (image, category, x, y) in BOXES.items()
    )
    crowd = {"id": 29, "bbox": [20, 10, 6, 5], "iscrowd": 1}
    images = {1: "a/1.png", "two": "b/2.png"}
    return of_images(*boxes, crowd, images=images, categories={3: "cat", 5: "dog"})


@pytest.fixture
def source(document):
    return check_document(document, "boxes.json", "", "")


def result(box, dx=0, **changes):
    """A result for a box, moved by ``dx`` columns."""
    image, category, x, y = BOXES[box]
    own = {"image_id": image, "category_id": category, "segmentation": code(x + dx, y)}
    return own | changes


@pytest.fixture
def join(tmp_path, source):
    """``join(document, **options)``: annotation id to (first column of its mask, score)."""

    def run(document, **options):
        path = write_json(tmp_path / "masks.json", document)
        masks = join_masks(path, source, **options).masks
        return {
            i: (int(np.flatnonzero(decode_mask(m.mask).any(axis=0))[0]), m.score)
            for i, m in sorted(masks.items())
        }

    return run


def test_by_annotation_id_wherever_the_mask_lies(join):
    results = [result(22, dx=5, annotation_id=22, score=0.5), result(21, annotation_id=21)]
    assert join(results) == {21: (2, 1.0), 22: (17, 0.5)}
    assert join(results, join="id") == {21: (2, 1.0), 22: (17, 0.5)}
    assert join(results, join="box") == {21: (2, 1.0)}


def test_of_several_masks_of_one_annotation_the_best(join):
    scores = (0.4, 0.9, 0.9, 0.1)
    results = [result(21, dx, annotation_id=21, score=s) for dx, s in enumerate(scores)]
    assert join(results) == {21: (3, 0.9)}


def test_by_id_if_every_one_agrees(join):
    results = [result(21, id=21), result(22, dx=4, id=22), result(23, id=23)]
    assert join(results) == {21: (2, 1.0), 22: (16, 1.0), 23: (2, 1.0)}
    results[0]["id"], results[2]["id"] = 23, 21  # then they mean something else
    assert join(results) == {21: (2, 1.0), 23: (2, 1.0)}
    with pytest.raises(DataError, match="entry 0: key 'id': found 23, but the mask is of image 1"):
        join(results, join="id")


def test_the_id_of_a_crowd_does_not_make_the_others_disagree(join):
    crowd = {**CROWD, "id": 29}
    assert join([result(22, dx=4, id=22), crowd]) == {22: (16, 1.0)}
    assert join([result(22, dx=4, id=22), crowd, result(22, annotation_id=22)]) == {22: (12, 1.0)}


@pytest.mark.parametrize("ids", [(1, 2, 3), (21, 21, 21), ("21", "22", "23"), (22, 21, 23)])
def test_ids_that_mean_something_else_are_left_alone(join, ids):
    results = [result(i, id=own) for i, own in zip(BOXES, ids, strict=True)]
    assert join(results) == {21: (2, 1.0), 22: (12, 1.0), 23: (2, 1.0)}


def test_by_box_one_to_one_the_largest_overlap_first(join):
    results = [result(21, dx=d, score=s) for d, s in ((2, 0.9), (1, 0.2), (1, 0.8))]
    assert join(results) == {21: (3, 0.8)}
    assert join([result(21, dx=1)], min_iou=5 / 7) == {21: (3, 1.0)}
    with pytest.raises(DataError, match="1 mask for 3 boxes; .* boxes without a mask 3; expected"):
        join([result(21, dx=1)], min_iou=5 / 7 + 1e-6)


def test_a_box_that_is_given_counts_instead_of_the_masks(join):
    assert join([result(21, dx=5, bbox=[2, 2, 6, 5])]) == {21: (7, 1.0)}
    with pytest.raises(DataError, match="expected at least one"):
        join([result(21, dx=5)])


def test_classes(join):
    other = result(21, category_id=5)
    unknown = result(21)
    del unknown["category_id"]
    assert join([unknown]) == {21: (2, 1.0)}
    assert join([other], match_class=False) == {21: (2, 1.0)}
    assert join([result(21, category_id=77)], match_class=False) == {21: (2, 1.0)}
    with pytest.raises(DataError, match="--any-class"):
        join([other])
    with pytest.raises(DataError, match="is of category 5, the annotation of 3 in boxes.json"):
        join([{**other, "annotation_id": 21}])


def test_a_polygon_is_a_mask_too(join):
    assert join([result(21, segmentation=[[2, 2, 8, 2, 8, 7, 2, 7]])]) == {21: (2, 1.0)}


def test_entries_without_a_mask_and_crowds_take_no_part(join):
    forms = zip(BOXES, (code(0, 0, 0, 0), [], None), strict=True)
    results = [result(i, segmentation=form) for i, form in forms]
    with pytest.raises(DataError, match="found no mask of an image of boxes.json"):
        join(results)
    assert join([{**CROWD, "annotation_id": 29}, result(21)]) == {21: (2, 1.0)}


@pytest.fixture
def other():
    """A COCO file of another tool: ids, order and folders of its own, images and classes by name."""
    results = [
        result(i, id=100 - i, image_id=f"x{image}", category_id=category + 10, bbox=[x, y, 6, 5])
        for i, (image, category, x, y) in BOXES.items()
    ]
    images = {"xtwo": "elsewhere/2.png", "x1": "1.png"}
    return of_images(*results, images=images, categories={13: "cat", 15: "dog"})


def test_a_coco_file_of_another_tool(join, other):
    assert join(other) == {21: (2, 1.0), 22: (12, 1.0), 23: (2, 1.0)}


def test_its_images_and_classes_that_the_dataset_lacks_are_left_out(join, other):
    other["images"].append({"id": 7, "file_name": "7.png", "height": 4, "width": 4})
    other["annotations"][0]["image_id"] = 7
    other["categories"][1]["name"] = "cow"
    assert join(other) == {23: (2, 1.0)}
    for category in other["categories"]:
        category["name"] += "!"
    with pytest.raises(DataError, match=r"none of its classes \(cat!, cow!\) is a class of boxes"):
        join(other)
    assert join(other, match_class=False) == {22: (12, 1.0), 23: (2, 1.0)}


def test_a_last_part_that_two_images_have_names_none(join, other):
    other["images"].append({**other["images"][1], "id": 8, "file_name": "old/1.png"})
    assert join(other) == {23: (2, 1.0)}
    other["images"][1]["file_name"] = "a/1.png"
    assert join(other) == {21: (2, 1.0), 22: (12, 1.0), 23: (2, 1.0)}


def test_a_proxy_mask_file_gives_its_masks_and_not_its_filled_boxes(join, document):
    proxy = copy.deepcopy(document)
    for annotation, status in zip(proxy["annotations"], ("ok", "empty", "failed"), strict=False):
        annotation.update(segmentation=result(annotation["id"])["segmentation"], status=status)
    assert join(proxy) == {21: (2, 1.0)}


TALL = encode_mask(np.ones((30, 20)))
TORN = {"size": [HEIGHT, WIDTH], "counts": "11"}
BREAKAGES = [
    (["x"], "entry 0: found 'x', expected an object"),
    ([result(21, image_id=None)], "entry 0: key 'image_id': None is not among the images"),
    ([result(21, image_id=99)], "entry 0: key 'image_id': 99 is not among the images"),
    ([result(21, image_id="x")], "entry 0: key 'image_id': 'x' is not among the images"),
    ([result(21, image_id=True)], "entry 0: key 'image_id': True is not among"),
    ([result(21, category_id=4)], "key 'category_id': 4 is not .*--any-class"),
    ([result(21, category_id="cow")], "key 'category_id': 'cow' is not among"),
    ([result(21), result(22, segmentation=TALL)], r"entry 1: .* \[30, 20\], expected \[20, 30\]"),
    ([result(21, segmentation=TORN)], "entry 0: key 'segmentation': counts add up to"),
    ([result(21, segmentation=[[1, 1, 2, 2]])], "found no mask of an image of boxes"),
    ([result(21, bbox=[1, 2, 3])], r"entry 0: key 'bbox': found \[1, 2, 3\], expected four"),
    ([result(21, score=1.02)], "entry 0: key 'score': found 1.02, expected a number from 0"),
    ([result(21, annotation_id=99)], "key 'annotation_id': 99 is not among the annotations"),
    ([result(21, annotation_id="no")], "key 'annotation_id': 'no' is not among"),
    ([result(21, annotation_id=23)], "key 'annotation_id': found 23, but the mask"),
    ({"masks": []}, "masks.json: key 'images': expected a list of objects"),
    ('"masks"', "masks.json: found a str, expected an object"),
    ("[{", "masks.json: not valid JSON"),
]


@pytest.mark.parametrize(("masks", "message"), BREAKAGES)
def test_what_is_wrong_is_one_line(join, tmp_path, masks, message):
    with pytest.raises(DataError, match=message) as caught:
        join(masks)
    text = str(caught.value)
    assert text.startswith(str(tmp_path / "masks.json")) and "\n" not in text


def test_images_of_another_size_are_refused(join, other):
    other["images"][0]["width"] = 31
    found = "image 'xtwo': key 'width': found 31, expected 30 as image"
    with pytest.raises(DataError, match=found):
        join(other)


def test_settings(join):
    with pytest.raises(ConfigError, match="EXTERNAL.JOIN: found 'ids', expected auto, id, box"):
        join([], join="ids")
    for value in (0.0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="MODEL.EXTERNAL.MIN_IOU: found"):
            join([], min_iou=value)


def test_the_source_with_these_masks(tmp_path, source, document):
    path = write_json(tmp_path / "masks.json", [result(21, score=0.25)])
    joined = join_masks(path, source)
    first, second, _, crowd = joined.as_source(source).annotations
    own = {"segmentation": result(21)["segmentation"], "area": 30, "score": 0.25, "status": "ok"}
    assert first == {**document["annotations"][0], **own}
    assert (second["status"], crowd["status"]) == ("empty", "crowd")
    assert "segmentation" not in second
    assert "1 mask for 3 boxes; joined by id 0, by box 1; boxes without a mask 2" in joined.summary
    assert len(joined.sha256) == 64
