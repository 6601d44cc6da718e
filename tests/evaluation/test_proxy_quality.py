from __future__ import annotations

import json
import math

import numpy as np
import pytest

from wsis.data.source import check_document
from wsis.evaluation.proxy_quality import (
    box_fit,
    format_quality,
    paired_contour_f,
    paired_rle_iou,
    proxy_quality,
    share_of_upper_bound,
)
from wsis.layers.contour import contour_counts, contour_f
from wsis.structures.boxes import mask_to_box
from wsis.structures.rle import encode_mask


def source(document, name="file.json"):
    return check_document(document, name, "", "", bad_box="skip")


def score(proxy, gt=None):
    return proxy_quality(source(proxy, "proxy.json"), None if gt is None else source(gt, "gt.json"))


def blobs(count, seed=0):
    """Random masks of density 0 to 0.9, among them empty ones."""
    rng = np.random.default_rng(seed)
    return rng.random((count, 17, 23)) < rng.choice([0, 0.1, 0.5, 0.9], size=(count, 1, 1))


def dense_iou(a, b):
    union = np.sum(a | b)
    return np.sum(a & b) / union if union else 0.0


def test_paired_iou_equals_the_dense_one_and_leaves_pixels_out_of_both():
    first, second, void = blobs(300, 1), blobs(300, 2), blobs(300, 3)
    codes = [[encode_mask(m) for m in masks] for masks in (first, second, void)]
    expected = [dense_iou(a, b) for a, b in zip(first, second, strict=True)]
    assert paired_rle_iou(*codes[:2]).tolist() == expected
    assert 0.0 in expected and max(expected) > 0.5
    outside = [dense_iou(a & ~v, b & ~v) for a, b, v in zip(first, second, void, strict=True)]
    codes[2][0], outside[0] = None, expected[0]
    assert paired_rle_iou(*codes).tolist() == outside
    assert paired_rle_iou([], []).shape == (0,)


def test_paired_contour_f_is_that_of_the_whole_image():
    first, second, void = blobs(60, 1), blobs(60, 2), blobs(60, 3)
    first[1:20, :5] = second[1:20, :, :9] = second[10:20, 12:] = False
    codes = [[encode_mask(m) for m in masks] for masks in (first, second, void)]
    codes[2][:30] = [None] * 30
    void[:30] = False
    pairs = zip(first & ~void, second & ~void, strict=True)
    counts = [contour_counts(*pair, 1)[0] for pair in pairs]
    found = paired_contour_f(*codes)
    np.testing.assert_array_equal(found, contour_f(np.array(counts), absent=1.0))
    assert 0 in found and ((found > 0) & (found < 1)).any()
    assert paired_contour_f(codes[0], codes[0], codes[2]).min() == 1
    assert paired_contour_f([], [], []).shape == (0,)


def test_paired_iou_refuses_other_sizes_and_lengths():
    one, other = encode_mask(np.ones((4, 6))), encode_mask(np.ones((6, 4)))
    with pytest.raises(ValueError, match=r"pair 1: .*\[4, 6\].*\[6, 4\]"):
        paired_rle_iou([one, one], [one, other])
    with pytest.raises(ValueError):
        paired_rle_iou([one], [one, one])


def test_box_fit_in_closed_form(square):
    masks = [square(0, 0, 10, 10), square(5, 0, 10, 10), square(30, 20, 3, 3), square(0, 0, 0, 0)]
    boxes = np.array([[0, 0, 10, 10]] * 4, float)
    assert box_fit([encode_mask(m) for m in masks], boxes).tolist() == [1.0, 50 / 150, 0.0, 0.0]
    assert box_fit([], np.zeros((0, 4))).shape == (0,)


def test_box_fit_knows_the_tight_box_of_any_mask():
    masks = [m for m in blobs(300) if m.any()]
    boxes = np.stack([mask_to_box(m) for m in masks])
    assert (box_fit([encode_mask(m) for m in masks], boxes) == 1).all()


def test_quality_in_closed_form(document, square):
    gt = document(
        {"mask": square(0, 0)},
        {"mask": square(20, 0)},
        {"mask": square(40, 0), "category_id": 20},
        {"mask": square(0, 20, 40, 20), "category_id": 20, "iscrowd": 1},
        {"bbox": [50, 30, 5, 5]},
    )
    proxy = json.loads(json.dumps(gt))
    proxy["annotations"][0]["segmentation"] = encode_mask(square(0, 0, 10, 7))  # IoU 0.7
    proxy["annotations"][1].update(status="empty", score=0)  # a filled box is no mask
    proxy["annotations"][2]["segmentation"] = encode_mask(square(40, 0, 5, 5))  # IoU 0.25
    proxy["annotations"][4]["segmentation"] = encode_mask(square(50, 30, 5, 5))
    quality = score(proxy, gt)
    overall = quality["overall"]
    assert (overall["count"], overall["scored"]) == (4, 3)
    assert overall["mIoU"] == pytest.approx((0.7 + 0 + 0.25) / 3)
    assert overall["class_mIoU"] == pytest.approx((0.35 + 0.25) / 2)
    assert [overall[f"IoU{t}"] for t in (25, 50, 70, 75)] == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0])
    assert overall["box_fit"] == pytest.approx((0.7 + 0 + 0.25 + 1) / 4)
    assert overall["found"] == 0.75
    assert overall["coverage"] == pytest.approx((0.7 + 0.25 + 1) / 3)
    assert overall["ignored"] == 0
    assert quality["status"] == {"crowd": 1, "empty": 1, "ok": 3}
    assert quality["without_true_mask"] == 1
    assert quality["ground_truth"] == "raster"
    assert quality["per_class"]["cat"]["mIoU"] == pytest.approx(0.35)
    assert quality["per_class"]["dog"]["IoU25"] == 1
    assert quality["per_status"]["empty"]["mIoU"] == 0
    json.dumps(quality, allow_nan=False)


@pytest.mark.parametrize("status", ["empty", "failed"])
def test_nothing_found_counts_zero(document, square, status):
    gt = document({"mask": square(0, 0)})
    proxy = document({"mask": square(0, 0), "status": status, "ignore_segmentation": "unused"})
    overall = score(proxy, gt)["overall"]
    assert (overall["mIoU"], overall["box_fit"], overall["found"], overall["IoU25"]) == (0, 0, 0, 0)
    assert overall["coverage"] is None


def test_missing_and_empty_masks_are_empty(document, square):
    gt = document({"mask": square(0, 0)}, {"mask": square(0, 0)}, {"mask": square(0, 0)})
    proxy = json.loads(json.dumps(gt))
    del proxy["annotations"][0]["segmentation"]
    proxy["annotations"][1]["segmentation"] = encode_mask(square(0, 0, 0, 0))
    quality = score(proxy, gt)
    assert quality["status"] == {"empty": 2, "ok": 1}
    assert quality["overall"]["mIoU"] == pytest.approx(1 / 3)


def test_ignored_pixels_count_against_the_mask_and_not_beside_it(document, square):
    gt = document({"mask": square(0, 0)}, {"mask": square(20, 0)})
    proxy = json.loads(json.dumps(gt))
    proxy["annotations"][0]["segmentation"] = encode_mask(square(0, 0, 10, 5))
    proxy["annotations"][0]["ignore_segmentation"] = encode_mask(square(0, 5, 10, 4))
    overall = score(proxy, gt)["overall"]
    assert overall["mIoU"] == pytest.approx((0.5 + 1) / 2)
    assert overall["mIoU_outside_ignored"] == pytest.approx((50 / 60 + 1) / 2)
    assert overall["ignored"] == pytest.approx(0.4 / 2)


def test_void_as_background_and_absent_classes_as_zero(document, square):
    """As BoxCaseg counts (mIoU*): one class of two has a mask, at an IoU of 0.64 with the void ring covered."""
    gt = document({"mask": square(1, 1, 8, 8)}, {"mask": square(20, 1)})
    gt["images"][0]["void"] = encode_mask(square(0, 0) & ~square(1, 1, 8, 8))
    proxy = document({"mask": square(0, 0), "bbox": [1, 1, 8, 8]}, {"mask": square(20, 1)})
    quality = score(proxy, gt)
    assert [quality["overall"][key] for key in ("mIoU", "class_mIoU", "IoU75")] == [1, 1, 1]
    counted = quality["void_as_background"]
    assert counted["mIoU"] == pytest.approx(0.82)
    assert counted["class_mIoU"] == pytest.approx(0.41)
    assert (counted["IoU50"], counted["IoU70"]) == (1, 0.5)
    assert "class mean 0.410, IoU25/50/70/75 1.000, 1.000, 0.500, 0.500" in format_quality(quality)
    gt["categories"], proxy["categories"] = gt["categories"][:1], proxy["categories"][:1]
    del gt["images"][0]["void"]
    same = score(proxy, gt)
    assert same["void_as_background"]["class_mIoU"] == same["overall"]["class_mIoU"]
    assert "mIoU*" not in format_quality(same)
    assert score(proxy)["void_as_background"] is None


@pytest.mark.parametrize(
    ("side", "size"), [(31, "small"), (32, "medium"), (95, "medium"), (96, "large")]
)
@pytest.mark.parametrize("with_truth", [True, False])
def test_sizes_go_by_the_true_mask_else_by_the_box(document, side, size, with_truth):
    mask = np.zeros((128, 128), dtype=bool)
    mask[:side, :side] = True
    box = [0, 0, 128, 128] if with_truth else [0, 0, side, side]
    made = document({"mask": mask, "bbox": box, "area": 5})
    made["images"][0].update(height=128, width=128)
    quality = score(made, made if with_truth else None)
    assert {n for n, group in quality["per_size"].items() if group["count"]} == {size}


def test_without_ground_truth_only_the_boxes_speak(document, square):
    quality = score(document({"mask": square(0, 0, 10, 5), "bbox": [0, 0, 10, 10]}))
    expected = {"count": 1, "found": 1.0, "box_fit": 0.5, "coverage": 0.5, "ignored": 0.0}
    assert quality["overall"] == expected
    assert quality["ground_truth"] is None and quality["without_true_mask"] is None


def test_boxes_are_clipped_to_the_image_and_without_area_have_no_coverage(document, square):
    for x, box, fit, coverage in ((50, [50, -10, 20, 20], 1, 1), (0, [0, 0, 0, 5], 0, None)):
        overall = score(document({"mask": square(x, 0, 10, 10), "bbox": box}))["overall"]
        assert (overall["box_fit"], overall["coverage"]) == (fit, coverage)


def test_polygons_and_uncompressed_codes(document, square):
    gt = document({"bbox": [0, 0, 10, 10], "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]})
    counts = [0] + [10, 30] * 9 + [10, 40 * 60 - 370]
    proxy = document({"bbox": [0, 0, 10, 10], "segmentation": {"size": [40, 60], "counts": counts}})
    quality = score(proxy, gt)
    assert quality["overall"]["mIoU"] == 1
    assert quality["ground_truth"] == "polygon"


def test_a_file_without_annotations_has_no_numbers(document):
    empty = document()
    quality = score(empty, empty)
    assert quality["overall"]["count"] == 0 and quality["overall"]["mIoU"] is None
    assert "all" in format_quality(quality)


def test_share_of_upper_bound():
    assert share_of_upper_bound(30.0, 40.0) == 0.75
    assert math.isnan(share_of_upper_bound(30.0, 0.0))


def test_masks_above_each_score(document, square):
    """Ten masks of score 0.05, 0.15 ...; the k-th one covers k of ten columns."""
    scores = [0.05 + 0.1 * k for k in range(10)]
    gt = document(*({"mask": square(0, 0)} for _ in scores))
    masks = [{"mask": square(0, 0, k + 1, 10), "bbox": [0, 0, 10, 10]} for k in range(10)]
    proxy = document(*({**m, "score": round(s, 6)} for m, s in zip(masks, scores, strict=True)))
    groups = score(proxy, gt)["per_score"]
    assert [g["above"] for g in groups] == pytest.approx([0, *scores[:-1]])
    assert [g["count"] for g in groups] == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert [g["mIoU"] for g in groups[-2:]] == pytest.approx([0.95, 1])
    for quality in (score(proxy, gt), score(proxy)):
        assert "score > 0.75" in format_quality(quality)


def test_one_score_for_all_is_no_choice(document, square):
    masks = [{"mask": square(0, 0)}, {"mask": square(20, 0)}]
    assert score(document(*masks))["per_score"] == []
    empty = document(*masks, {"bbox": [0, 0, 5, 5], "status": "empty", "score": 0.0})
    assert score(empty)["per_score"] == []
    empty["annotations"][0]["score"] = 0.5
    groups = score(empty)["per_score"]
    assert [(g["above"], g["count"]) for g in groups] == [(0, 2), (0.5, 1)]
