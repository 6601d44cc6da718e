"""Recorded localisation: boxes of maps, accuracies, pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import softmax

from tests.golden.compare import Comparison, absolute, each, exact, relative
from tests.golden.frame import Arrays, cases, check
from wsis.layers.iou import box_iou
from wsis.layers.localisation import (
    boxes_in_crop,
    boxes_of_map,
    localisation_accuracies,
    normalised_map,
    object_mask,
    pixel_scores,
    score_histogram,
)

SIZE = (224, 224)


@check("bas", "gt_box_transform", "raw_x0y0x1y1_wh resize crop cub_boxes ilsvrc_boxes")
def bas_boxes_in_crop(arrays: Arrays) -> Iterator[Comparison]:
    """True boxes of two data sets; one has whole pixels only."""
    sides = int(arrays["resize"]), int(arrays["crop"])
    rows = arrays["raw_x0y0x1y1_wh"].astype(np.float64)
    for name, boxes in (("cub_boxes", rows[:, :4]), ("ilsvrc_boxes", np.trunc(rows[:, :4]))):
        found = [
            boxes_in_crop(box[None], (row[5], row[4]), *sides)[0]
            for box, row in zip(boxes, rows, strict=True)
        ]
        yield exact(name, np.stack(found), arrays[name])


@check(
    "bas",
    "wsol_eval",
    "maps scores tencrop_scores label thresholds use_tencrop gt_boxes gt_count cls_top1 cls_top5 best_top1_loc"
    " best_gt_known best_thr iou30 iou50 iou70 gt_known top1_loc top5_loc pred_boxes iou_rows normalized_map_0"
    " normalized_map_minmax",
)
def bas_localisation(arrays: Arrays) -> Iterator[Comparison]:
    """From maps and scores to percentages."""
    maps = np.stack([normalised_map(each[0], SIZE) for each in arrays["maps"]])
    thresholds, labels = arrays["thresholds"], arrays["label"]
    boxes = np.stack([boxes_of_map(map_, thresholds) for map_ in maps])
    yield relative("map", maps[0, ::4, ::4], arrays["normalized_map_0"], 1e-5)
    extremes = np.stack([maps.min(axis=(1, 2)), maps.max(axis=(1, 2))], axis=1)
    yield relative("extremes", extremes, arrays["normalized_map_minmax"], 1e-5)
    yield exact("pred_boxes", boxes, arrays["pred_boxes"])
    image = np.repeat(np.arange(len(maps)), arrays["gt_count"])
    pairs = box_iou(boxes[image], arrays["gt_boxes"][:, None], inclusive=True)
    of_image = [pairs[image == i] for i in range(len(maps))]
    rows = [
        (i, t, g, values[g, t])
        for i, values in enumerate(of_image)
        for t in range(len(thresholds))
        for g in range(len(values))
    ]
    yield absolute("iou_rows", np.array(rows), arrays["iou_rows"], 1e-6)
    iou = np.stack([values.max(axis=0) for values in of_image])
    crops, scores = arrays["tencrop_scores"], arrays["scores"]
    if int(arrays["use_tencrop"]) == 1:
        scores = softmax(crops, axis=2).mean(axis=1)
    ranks = (scores > scores[np.arange(len(scores)), labels][:, None]).sum(axis=1)
    found = {name: 100 * v for name, v in localisation_accuracies(iou, ranks).items()}
    found = {"top1_loc": found.pop("top1"), "top5_loc": found.pop("top5"), **found}
    best = int((found["top1_loc"] + found["gt_known"]).argmax())
    found |= {f"best_{name}": found[name][best] for name in ("top1_loc", "gt_known")}
    found |= {f"cls_top{n}": 100 * (ranks < n).mean() for n in (1, 5)}
    yield from each(arrays, found, absolute, 1e-4)
    yield exact("best_thr", thresholds[best], arrays["best_thr"])


@check(
    "bas",
    "pxap",
    "maps gt_masks PxAP PIoU hist_true hist_false scores_shape raw_instances_# raw_ignore_#",
)
def bas_pixels(arrays: Arrays) -> Iterator[Comparison]:
    """Histograms of pixels, their scores, and the masks of the first images."""
    size = tuple(int(side) for side in arrays["scores_shape"])
    pairs = zip(arrays["maps"], arrays["gt_masks"], strict=True)
    histogram = sum(score_histogram(normalised_map(m[0], size), truth) for m, truth in pairs)
    expected = np.stack([arrays["hist_false"], arrays["hist_true"]])
    moved = np.abs(histogram - expected).sum() / 2
    yield absolute("pixels in another bin", moved, np.zeros(()), 20)
    for name, value in zip(("PxAP", "PIoU"), pixel_scores(histogram), strict=True):
        yield absolute(name, 100 * value, arrays[name], 1e-3)
    for i in cases(arrays, "raw_instances_#"):
        instances, ignored = (arrays[f"raw_{kind}_{i}"] > 0 for kind in ("instances", "ignore"))
        yield exact(f"mask {i}", object_mask(instances, ignored, size), arrays["gt_masks"][i])
