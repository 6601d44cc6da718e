from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

from wsis.evaluation import InstanceEvaluator
from wsis.evaluation.instance import GroundTruth
from wsis.structures.boxes import mask_to_box
from wsis.structures.rle import encode_mask

NAME = "instance_evaluator_test"
METRICS = ("AP", "AP25", "AP50", "AP70", "AP75", "ABO", "ABO-class")


def predict(masks, classes=None, scores=None, with_masks=True):
    """Instances at original image size, as a student returns them."""
    n = len(masks)
    out = Instances((40, 60))
    boxes = [mask_to_box(m) for m in masks]
    out.pred_boxes = Boxes(torch.tensor(np.array(boxes, dtype=np.float32)).reshape(n, 4))
    out.scores = torch.tensor(scores or [0.9] * n)
    out.pred_classes = torch.tensor(classes or [0] * n, dtype=torch.int64)
    if with_masks:
        out.pred_masks = torch.tensor(np.array(masks, dtype=bool)).reshape(n, 40, 60)
    return out


def evaluate(found, output_dir=None, evaluator=None, **arguments):
    """Scores instances by image id, or those of image 1."""
    evaluator = evaluator or InstanceEvaluator(NAME, output_dir, distributed=False, **arguments)
    evaluator.reset()
    for image_id, instances in (found if isinstance(found, dict) else {1: found}).items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


@pytest.fixture
def register(tmp_path, document):
    """``register(*objects)``, or of a document, as Detectron2 would; it is forgotten after the test."""

    def _register(*objects, agnostic=False):
        whole = objects and "images" in objects[0]
        given = objects[0] if whole else document(*objects)
        (tmp_path / "gt.json").write_text(json.dumps(given))
        ids = [c["id"] for c in given["categories"]]
        names = ["object"] if agnostic else [c["name"] for c in given["categories"]]
        DatasetCatalog.register(NAME, list)
        MetadataCatalog.get(NAME).set(
            json_file=str(tmp_path / "gt.json"),
            thing_classes=names,
            thing_dataset_id_to_contiguous_id={c: 0 if agnostic else i for i, c in enumerate(ids)},
        )

    yield _register
    DatasetCatalog.pop(NAME, None)
    MetadataCatalog.pop(NAME, None)


def test_a_perfect_prediction_is_100_everywhere(register, square):
    register({"mask": square(0, 0)}, {"mask": square(20, 0), "category_id": 20})
    results = evaluate(predict([square(20, 0), square(0, 0)], [1, 0]))
    for task in ("bbox", "segm"):
        for metric in (*METRICS, "APs", "AP-dog"):
            assert results[task][metric] == pytest.approx(100), (task, metric)
        assert math.isnan(results[task]["APl"])


@pytest.mark.parametrize(
    ("height", "reached"),
    [(2, ()), (3, (25,)), (6, (25, 50)), (7, (25, 50, 70)), (8, (25, 50, 70, 75))],
)
def test_thresholds(register, square, height, reached):
    """The prediction covers height/10 of the object."""
    register({"mask": square(0, 0)})
    segm = evaluate(predict([square(0, 0, 10, height)]))["segm"]
    for t in (25, 50, 70, 75):
        assert segm[f"AP{t}"] == pytest.approx(100 if t in reached else 0), t
    assert segm["ABO"] == pytest.approx(10 * height)


def test_first_annotation_id_zero_and_missing_keys(register, document, square):
    """COCOeval takes id 0 for "no match" and fails without ``area`` and ``iscrowd``."""
    gt = document({"mask": square(0, 0), "id": 0}, {"mask": square(20, 0), "id": 1})
    for annotation in gt["annotations"]:
        del annotation["iscrowd"]
    register(gt)
    results = evaluate(predict([square(0, 0), square(20, 0)]))
    assert [results[task]["AP"] for task in ("segm", "bbox")] == pytest.approx([100, 100])


def test_missing_area_is_that_of_the_mask_else_of_the_box(document, square):
    gt = document({"mask": square(0, 0, 5, 5), "bbox": [0, 0, 10, 10]}, {"bbox": [0, 0, 4, 6]})
    gt["annotations"].append({**gt["annotations"][1], "area": 3.5})
    areas = [a["area"] for a in GroundTruth(gt).dataset["annotations"]]
    assert areas == [25, 24, 3.5]


def test_average_best_overlap_over_objects_and_classes(register, square):
    register(
        {"mask": square(0, 0)},
        {"mask": square(20, 0)},
        {"mask": square(40, 0), "category_id": 20},
        {"mask": square(0, 30), "image_id": 2},
        {"mask": square(0, 20, 60, 10), "iscrowd": 1},
    )
    masks = [square(0, 0, 10, 5), square(0, 0, 10, 8), square(20, 0), square(40, 0, 10, 6)]
    results = evaluate({1: predict(masks, [0, 0, 1, 1], [0.9, 0.1, 0.5, 0.5]), 2: predict([])})
    # cats: 0.8, nothing of its class, nothing; dog: 0.6
    assert results["segm"]["ABO"] == pytest.approx(100 * (0.8 + 0.6) / 4)
    assert results["segm"]["ABO-class"] == pytest.approx(100 * (0.8 / 3 + 0.6) / 2)


def test_nothing_found_is_zero(register, square):
    register({"mask": square(0, 0)}, {"mask": square(9, 9), "category_id": 20})
    results = evaluate(predict([]))
    for task in ("bbox", "segm"):
        for metric in (*METRICS, "AP-cat"):
            assert results[task][metric] == 0, (task, metric)
        assert math.isnan(results[task]["APl"])


def test_no_object_at_all_is_nan_and_no_image_is_nothing(register, square):
    register()
    results = evaluate(predict([square(0, 0)]))
    assert set(results) == {"bbox"}
    assert math.isnan(results["bbox"]["AP25"]) and math.isnan(results["bbox"]["ABO"])
    assert evaluate({}) == {}


def test_ground_truth_without_masks_gives_box_ap_and_says_so(register, square, caplog):
    register({"mask": square(0, 0)}, {"bbox": [20, 0, 10, 10]})
    with caplog.at_level(logging.WARNING, logger="wsis"):
        results = evaluate(predict([square(0, 0), square(20, 0)]))
    assert set(results) == {"bbox"}
    assert results["bbox"]["AP"] == pytest.approx(100)
    lines = [r.getMessage() for r in caplog.records if "box AP only" in r.getMessage()]
    assert len(lines) == 1 and "1 of 2 objects" in lines[0]


def test_a_box_detector_is_scored_by_boxes_only(register, square):
    register({"mask": square(0, 0)})
    assert set(evaluate(predict([square(0, 0)], with_masks=False))) == {"bbox"}


def test_classes_taken_as_one(register, square):
    register({"mask": square(0, 0)}, {"mask": square(20, 0), "category_id": 20}, agnostic=True)
    results = evaluate(predict([square(0, 0), square(20, 0)], [0, 0]))
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["bbox"]["ABO"] == pytest.approx(100)


def test_crowd_regions_forgive(register, square):
    register({"mask": square(0, 0)}, {"mask": square(0, 20, 60, 20), "iscrowd": 1})
    results = evaluate(predict([square(5, 25), square(0, 0)], scores=[0.9, 0.5]))
    assert results["segm"]["AP"] == pytest.approx(100)


def test_void_pixels_are_taken_out_of_predictions(register, document, square):
    gt = document({"mask": square(1, 1, 8, 8)}, {"mask": square(21, 1, 8, 8), "image_id": 2})
    gt["images"][0]["void"] = encode_mask(square(0, 0) & ~square(1, 1, 8, 8))
    register(gt)
    segm = evaluate({1: predict([square(0, 0)]), 2: predict([square(20, 0)])})["segm"]
    assert segm["ABO"] == pytest.approx(100 * (1 + 0.64) / 2)


def test_polygons_are_ground_truth_too_and_the_result_says_which(register, square, tmp_path):
    polygon = [[0, 0, 10, 0, 10, 10, 0, 10]]
    register({"bbox": [0, 0, 10, 10], "segmentation": polygon})
    segm = evaluate(predict([square(0, 0)]), str(tmp_path))["segm"]
    assert segm["AP"] == pytest.approx(100)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["dataset"] == NAME and record["ground_truth"] == "polygon"
    assert record["segm"]["AP70"] == pytest.approx(100) and record["segm"]["APl"] is None


def test_more_than_a_hundred_objects_need_the_limit_raised(register, square):
    masks = [square(x, y, 3, 3) for y in range(0, 36, 3) for x in range(0, 30, 3)]
    register(*({"mask": mask} for mask in masks))
    few, all_ = (evaluate(predict(masks), max_dets_per_image=n)["segm"] for n in (100, 120))
    assert few["AP"] < 90 and few["ABO"] < 90
    for metric in ("AP", "AP25", "AP50", "AP70", "ABO"):
        assert all_[metric] == pytest.approx(100), metric


def test_agrees_with_detectron2_where_both_speak(register):
    """Random scenes with predictions shifted by a pixel."""
    rng = np.random.default_rng(0)

    def scene(n):
        masks = np.zeros((n, 40, 60), dtype=bool)
        for mask in masks:
            x, y = rng.integers(0, 30, 2)
            mask[y : y + rng.integers(4, 10), x : x + rng.integers(4, 30)] = True
        return masks

    truth = {i: scene(6) for i in (1, 2, 3)}
    objects = [{"mask": m, "image_id": i} for i, masks in truth.items() for m in masks]
    register(*({**o, "area": int(o["mask"].sum())} for o in objects))
    noisy = {i: np.roll(masks, 1, axis=2) | np.roll(masks, 1, axis=1) for i, masks in truth.items()}
    found = {i: predict(list(m), scores=rng.random(6).tolist()) for i, m in noisy.items()}
    ours = evaluate(found)
    stock = COCOEvaluator(NAME, distributed=False, use_fast_impl=False)
    theirs = evaluate(found, evaluator=stock)
    assert 0 < ours["segm"]["AP"] < ours["segm"]["AP70"] < 100
    assert len(theirs["segm"]) == 8
    for task in ("bbox", "segm"):
        for metric, value in theirs[task].items():
            assert ours[task][metric] == pytest.approx(value, nan_ok=True), (task, metric)
        assert ours[task]["AP75"] <= ours[task]["AP70"] <= ours[task]["AP50"] <= ours[task]["AP25"]


def test_reset_forgets(register, square):
    register({"mask": square(0, 0)})
    evaluator = InstanceEvaluator(NAME, distributed=False)
    for found, expected in ((square(20, 0), 0), (square(0, 0), 100)):
        segm = evaluate(predict([found]), evaluator=evaluator)["segm"]
        assert segm["AP50"] == pytest.approx(expected)
