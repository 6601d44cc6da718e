from __future__ import annotations

import copy

import pytest

from wsis.data.source import check_document
from wsis.errors import DataError
from wsis.evaluation.proxy_pairs import pair_masks, segmentation_kind
from wsis.structures.rle import encode_mask


@pytest.fixture
def gt(document, square):
    return document({"mask": square(0, 0)}, {"mask": square(20, 0), "category_id": 20})


def join(proxy, gt):
    return pair_masks(
        check_document(proxy, "p.json", "", ""),
        check_document(gt, "gt.json", "", "", need_boxes=False),
    )


def test_order_does_not_matter(gt):
    shuffled = copy.deepcopy(gt)
    shuffled["annotations"].reverse()
    shuffled["images"].reverse()
    pairs = join(gt, shuffled)
    assert pairs.masks == pairs.true_masks == [a["segmentation"] for a in gt["annotations"]]
    assert pairs.classes.tolist() == [0, 1]
    assert pairs.boxes.tolist() == [[0, 0, 10, 10], [20, 0, 30, 10]]


def test_a_rounded_box_passes_and_a_missing_true_box_too(gt):
    proxy = copy.deepcopy(gt)
    proxy["annotations"][0]["bbox"] = [0.4, 0.0, 9.6, 10.0]
    del gt["annotations"][1]["bbox"]
    assert len(join(proxy, gt).masks) == 2


def _other_image(document):
    document["images"].append({**document["images"][0], "id": 7})
    document["annotations"][1]["image_id"] = 7


BREAKAGES = {
    "other box": (
        lambda d: d["annotations"][1].update(bbox=[20, 3, 10, 10]),
        r"p.json: annotation 101: key 'bbox': found \[20, 3, 10, 10\], expected \[20.0, .* as in gt.json",
    ),
    "other class": (
        lambda d: d["annotations"][1].update(category_id=10),
        "annotation 101: name of its category: found 'cat', expected 'dog' as in gt.json",
    ),
    "renamed class": (
        lambda d: d["categories"][1].update(name="wolf"),
        "annotation 101: name of its category: found 'wolf', expected 'dog'",
    ),
    "other image": (_other_image, "annotation 101: key 'image_id': found 7, expected 1"),
    "other size": (
        lambda d: d["images"][0].update(height=41),
        r"annotation 100: height and width of its image: found \(41, 60\), expected \(40, 60\)",
    ),
    "unknown id": (
        lambda d: d["annotations"][1].update(id=999),
        r"p.json: 1 of 2 annotation ids \(first: 999\) are not in gt.json",
    ),
    "missing id": (
        lambda d: d["annotations"].pop(),
        r"gt.json: 1 of 2 annotation ids \(first: 101\) are not in p.json",
    ),
    "no masks": (
        lambda d: [a.pop("segmentation") for a in d["annotations"]],
        "p.json: of 2 annotations none has a 'segmentation'",
    ),
    "code of another size": (
        lambda d: d["annotations"][0]["segmentation"].update(size=[60, 40]),
        r"p.json: annotation 100: key 'segmentation': size \[60, 40\], expected \[40, 60\]",
    ),
    "polygon of text": (
        lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, "x"]]),
        "annotation 100: key 'segmentation': a polygon's coordinates must be finite",
    ),
    "bad ignored region": (
        lambda d: d["annotations"][0].update(ignore_segmentation="x"),
        "annotation 100: key 'ignore_segmentation'",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_disagreement_is_one_clear_line(gt, name):
    proxy = copy.deepcopy(gt)
    harm, message = BREAKAGES[name]
    join(proxy, gt)
    harm(proxy)
    with pytest.raises(DataError, match=message) as caught:
        join(proxy, gt)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (BREAKAGES["no masks"][0], "gt.json: of 2 annotations none has a 'segmentation'"),
        (
            lambda d: d["images"][0].update(void={"size": [3, 3], "counts": "09"}),
            "gt.json: image 1: key 'void': size",
        ),
    ],
)
def test_bad_ground_truth_is_refused(gt, harm, message):
    truth = copy.deepcopy(gt)
    harm(truth)
    with pytest.raises(DataError, match=message):
        join(gt, truth)


def test_a_status_of_another_tool_is_not_ours(gt):
    proxy = copy.deepcopy(gt)
    proxy["annotations"][0]["status"] = "reviewed"
    proxy["annotations"][1]["status"] = "given"
    assert join(proxy, gt).status == ["ok", "given"]


def test_crowds_of_either_file_are_left_out(gt):
    proxy = copy.deepcopy(gt)
    proxy["annotations"][0]["iscrowd"] = 1
    gt["annotations"][1]["iscrowd"] = 1
    pairs = join(proxy, gt)
    assert pairs.num_crowd == 2 and pairs.masks == []


def test_kind_of_segmentation(square):
    raster = {"segmentation": encode_mask(square(0, 0))}
    polygon = {"segmentation": [[0, 0, 1, 0, 1, 1]]}
    assert segmentation_kind([raster]) == "raster"
    assert segmentation_kind([polygon, {}, {**raster, "iscrowd": 1}]) == "polygon"
    assert segmentation_kind([polygon, raster]) == "mixed"
    assert segmentation_kind([{}, {"segmentation": []}]) is None
