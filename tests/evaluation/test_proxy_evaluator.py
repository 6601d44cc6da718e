from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
from detectron2.utils import comm

from wsis.data.registration import register_dataset
from wsis.evaluation import ProxyEvaluator
from wsis.structures import ProxyMasks, Seed
from wsis.structures.boxes import xywh_to_xyxy

NAME = "proxy_evaluator_test"


@pytest.fixture
def register(tmp_path):
    """Registers a document; the next test's, having another path, takes its place."""

    def _register(document):
        path = tmp_path / "gt.json"
        path.write_text(json.dumps(document))
        register_dataset(NAME, str(path), "")

    return _register


def teach(gt, image_id, change=lambda annotation_id, mask: mask, **arguments):
    """What a teacher returns for an image: its true masks (else filled boxes), changed."""
    annotations = [a for a in gt["annotations"] if a["image_id"] == image_id and not a["iscrowd"]]
    boxes = np.array([xywh_to_xyxy(a["bbox"]) for a in annotations], dtype=np.float32)
    ids = tuple(a["id"] for a in annotations)
    seed = Seed(image_id, "", 40, 60, boxes, np.zeros(len(ids), dtype=np.int64), ids)
    crops = [
        (change(key, np.ones((y1 - y0, x1 - x0), dtype=bool)), x0, y0)
        for key, (x0, y0, x1, y1) in zip(ids, boxes.astype(int), strict=True)
    ]
    return ProxyMasks.from_crops(seed, crops, **arguments).to_instances()


def evaluate(results, output_dir=None):
    evaluator = ProxyEvaluator(NAME, output_dir)
    for image_id, instances in results.items():
        evaluator.process([{"image_id": image_id}], [{"proxy": instances}])
    return evaluator.evaluate()


def lower_part_only(rows):
    def change(_, mask):
        mask[:rows] = False
        return mask

    return change


def test_masks_meet_their_true_ones(register, document, square, tmp_path):
    gt = document(
        {"mask": square(0, 0)},
        {"mask": square(20, 0), "category_id": 20},
        {"mask": square(0, 0, 60, 40), "iscrowd": 1},
        {"mask": square(5, 5), "image_id": 2},
    )
    register(gt)
    masks = {1: teach(gt, 1, lower_part_only(4)), 2: teach(gt, 2)}
    results = evaluate(masks, str(tmp_path / "out"))["proxy"]
    assert results["mIoU"] == pytest.approx((0.6 + 0.6 + 1) / 3)
    assert results["class_mIoU"] == pytest.approx((0.8 + 0.6) / 2)
    assert results["mIoU-dog"] == pytest.approx(0.6)
    assert results["mIoU-small"] == results["mIoU"] and math.isnan(results["mIoU-large"])
    assert all(type(value) is float for value in results.values())
    written = json.loads((tmp_path / "out" / "proxy_quality.json").read_text())
    assert written["overall"]["mIoU"] == results["mIoU"]
    assert written["status"] == {"crowd": 1, "ok": 3}


def test_empty_masks_ignored_regions_and_objects_never_given(register, document, square):
    gt = document(
        {"mask": square(0, 0)},
        {"mask": square(20, 0)},
        {"mask": square(40, 0)},
        {"bbox": [70, 0, 5, 5]},  # outside the image: no teacher is given this box
    )
    register(gt)
    kept = {**gt, "annotations": gt["annotations"][:3]}
    ignored = np.ones((10, 10), dtype=bool)
    masks = teach(
        kept,
        1,
        lambda i, mask: np.zeros_like(mask) if i == 100 else lower_part_only(5)(i, mask),
        ignore=[None, (ignored, 20, 0), None],
    )
    assert masks.status == ["empty", "ok", "ok"]
    results = evaluate({1: masks})["proxy"]
    assert results["mIoU"] == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert results["mIoU_outside_ignored"] == pytest.approx((0 + 1 + 0.5) / 3)
    assert results["found"] == 0.5


def test_without_true_masks_one_line_and_the_fit_to_boxes(register, document, caplog):
    gt = document({"bbox": [0, 0, 10, 10]})
    register(gt)
    with caplog.at_level(logging.WARNING, logger="wsis"):
        results = evaluate({1: teach(gt, 1)})["proxy"]
    assert results["box_fit"] == 1 and "mIoU" not in results
    assert sum("no masks in the ground truth" in r.getMessage() for r in caplog.records) == 1


def test_only_images_that_were_processed_since_the_reset_count(register, document, square):
    gt = document({"mask": square(0, 0)}, {"mask": square(0, 0), "image_id": 2})
    register(gt)
    evaluator = ProxyEvaluator(NAME)
    evaluator.process([{"image_id": 1}], [{"proxy": teach(gt, 1, lower_part_only(5))}])
    evaluator.reset()
    assert evaluator.evaluate() == {}
    evaluator.process([{"image_id": 2}], [{"proxy": teach(gt, 2)}])
    assert evaluator.evaluate()["proxy"]["mIoU"] == 1


def test_processes_gather_on_the_first(register, document, square, monkeypatch):
    gt = document({"mask": square(0, 0)}, {"mask": square(0, 0), "image_id": 2})
    register(gt)
    first, second = (ProxyEvaluator(NAME) for _ in range(2))
    first.process([{"image_id": 1}], [{"proxy": teach(gt, 1)}])
    second.process([{"image_id": 2}], [{"proxy": teach(gt, 2, lower_part_only(5))}])
    parts = [first._annotations, second._annotations]
    monkeypatch.setattr(comm, "gather", lambda data, dst: parts)
    assert first.evaluate()["proxy"]["mIoU"] == pytest.approx(0.75)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert second.evaluate() == {}
