"""Recorded scores: IoU of masks and boxes, semantic segmentation, contours."""

from __future__ import annotations

import numpy as np

from tests.golden.compare import Comparison, absolute, close, exact
from tests.golden.frame import Arrays, cases, check
from tests.golden.reference import labels_from_maps, mask_iou
from wsis.layers.contour import boundary_map, contour_counts, contour_f
from wsis.layers.iou import box_iou, class_means
from wsis.layers.seg_metrics import class_iou, confusion_matrix, semantic_scores

IOU = 1e-6


SEMSEG_ARRAYS = ("pred", "gt", "num_classes", "confusion", "mIoU", "fwIoU", "mACC", "pACC")


@check(method="bana", prefix="semseg_eval", arrays=(*SEMSEG_ARRAYS, "per_IoU", "per_Acc"))
def bana_semseg_eval(arrays: Arrays) -> list[Comparison]:
    """Percent, per-class values NaN for classes absent from the ground truth."""
    confusion = confusion_matrix(arrays["pred"], arrays["gt"], int(arrays["num_classes"]))
    scores = semantic_scores(confusion)
    per_iou = np.where(confusion.sum(axis=1) > 0, scores.iou, np.nan)
    got = {
        "mIoU": scores.mean_iou,
        "fwIoU": scores.frequency_weighted_iou,
        "mACC": scores.mean_accuracy,
        "pACC": scores.pixel_accuracy,
        "per_IoU": per_iou,
        "per_Acc": scores.accuracy,
    }
    return [exact("confusion", confusion, arrays["confusion"])] + [
        close(name, 100 * np.asarray(value), arrays[name]) for name, value in got.items()
    ]


PAIR_ARRAYS = ("pair_pred", "pair_gt", "pair_iou")
INSTANCE_ARRAYS = ("gt_instance_map", "pred", "image_index", "cls", "instance_id", "instance_iou")


@check(
    method="boxcaseg",
    prefix="metric",
    arrays=(*PAIR_ARRAYS, *INSTANCE_ARRAYS, "miou_per_class", "miou_star", "iou#"),
)
def boxcaseg_metric(arrays: Arrays) -> list[Comparison]:
    """Instance IoU against a map of ids (void counts as background), class means, shares."""
    index, classes = arrays["image_index"], arrays["cls"]
    truth = arrays["gt_instance_map"][index] == arrays["instance_id"][:, None, None]
    iou = mask_iou(arrays["pred"], truth)
    expected_means = arrays["miou_per_class"]
    means = np.nan_to_num(class_means(iou, classes - 1, len(expected_means)))
    pairs = mask_iou(arrays["pair_pred"], arrays["pair_gt"])
    return [
        absolute("pair_iou", pairs, arrays["pair_iou"], IOU),
        absolute("instance_iou", iou, arrays["instance_iou"], IOU),
        absolute("miou_per_class", means, expected_means, IOU),
        absolute("miou_star", means.mean(), arrays["miou_star"], IOU),
    ] + [
        absolute(f"iou{k}", (iou >= k / 100).mean(), arrays[f"iou{k}"], IOU)
        for k in cases(arrays, "iou#")
    ]


@check(method="boxcaseg", prefix="overlap_iou", arrays=("boxes_xyxy", "iou", "overlapped"))
def boxcaseg_overlap_iou(arrays: Arrays) -> list[Comparison]:
    """All pairs of boxes with exclusive far edges, corners truncated."""
    boxes = np.trunc(arrays["boxes_xyxy"])
    iou = box_iou(boxes[:, None], boxes[None])
    others = np.where(np.eye(len(boxes), dtype=bool), 0.0, iou)
    return [
        absolute("iou", iou, arrays["iou"], IOU),
        exact("overlapped", (others > 0.5).any(axis=1), arrays["overlapped"]),
    ]


@check(method="boxcaseg", prefix="proxy_box_iou", arrays=("mask_box", "gt_box", "iou"))
def boxcaseg_proxy_box_iou(arrays: Arrays) -> list[Comparison]:
    """Pairs of boxes with inclusive corners."""
    iou = box_iou(arrays["mask_box"], arrays["gt_box"], inclusive=True)
    return [absolute("iou", iou, arrays["iou"], IOU)]


CONTOUR_ARRAYS = ("n_images", "num_classes", "gt_#", "pred_#", "counts", "class_f")


@check(
    method="icam",
    prefix="metrics",
    arrays=(*CONTOUR_ARRAYS, "mean_f_percent", "iou_percent", "miou_percent"),
)
def icam_metrics(arrays: Arrays) -> list[Comparison]:
    """Contour counts and F pooled over the images, IoU with absent classes as 0."""
    num_classes = int(arrays["num_classes"])
    counts, out = [], []
    confusion = np.zeros((num_classes + 2, num_classes + 2), dtype=np.int64)
    for i in cases(arrays, "gt_#"):
        gt, pred = arrays[f"gt_{i}"], arrays[f"pred_{i}"]
        counts.append(contour_counts(gt, pred, num_classes))
        # void in a prediction is a miss: one more class, which is never true
        confusion += confusion_matrix(
            np.minimum(pred, num_classes + 1), gt, num_classes + 2, ignore_label=255
        )
        if f"bmap_gt_fg_{i}" in arrays:
            boundary = boundary_map((gt > 0) & (gt != 255))
            out.append(exact(f"bmap_gt_fg_{i}", boundary, arrays[f"bmap_gt_fg_{i}"]))
    f_score = contour_f(np.sum(counts, axis=0))
    iou = 100 * np.nan_to_num(class_iou(confusion)[: num_classes + 1])
    return [
        exact("n_images", len(counts), arrays["n_images"]),
        exact("counts", np.stack(counts), arrays["counts"]),
        absolute("class_f", f_score, arrays["class_f"], 1e-5),
        absolute("mean_f_percent", 100 * f_score.mean(), arrays["mean_f_percent"], 1e-3),
        absolute("iou_percent", iou, arrays["iou_percent"], 1e-3),
        absolute("miou_percent", iou.mean(), arrays["miou_percent"], 1e-3),
        *out,
    ]


@check(
    method="bas",
    prefix="wsss_seg_miou",
    arrays=("n_images", "pred_#", "gt_#", "iou_f64", "miou_f64"),
)
def bas_wsss_seg_miou(arrays: Arrays) -> list[Comparison]:
    """Label maps whose 255 means background, against ground truth with -1 left out."""
    num_classes = len(arrays["iou_f64"])
    numbers = cases(arrays, "pred_#")
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for i in numbers:
        pred = arrays[f"pred_{i}"]
        confusion += confusion_matrix(
            np.where(pred == 255, 0, pred), arrays[f"gt_{i}"], num_classes, ignore_label=-1
        )
    scores = semantic_scores(confusion)
    return [
        exact("n_images", len(numbers), arrays["n_images"]),
        absolute("iou_f64", scores.iou, arrays["iou_f64"], 1e-9),
        absolute("miou_f64", scores.mean_iou, arrays["miou_f64"], 1e-9),
    ]


@check(
    method="bas",
    prefix="wsss_seed_miou",
    arrays=("n_images", "keys_#", "high_res_#", "gt_#", "thresholds", "miou_f64", "best_f64"),
)
def bas_wsss_seed_miou(arrays: Arrays) -> list[Comparison]:
    """Class maps against a constant background, for each threshold."""
    numbers = cases(arrays, "gt_#")
    labels = [arrays[f"gt_{i}"].max(initial=0) for i in numbers]
    keys = [arrays[f"keys_{i}"].max(initial=0) + 1 for i in numbers]
    num_classes = int(max(labels + keys, default=0)) + 1
    scores = []
    for threshold in arrays["thresholds"]:
        confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
        for i in numbers:
            maps, ids = arrays[f"high_res_{i}"], arrays[f"keys_{i}"] + 1
            pred = labels_from_maps(maps, ids, threshold)
            confusion += confusion_matrix(pred, arrays[f"gt_{i}"], num_classes, ignore_label=-1)
        scores.append(semantic_scores(confusion).mean_iou)
    return [
        exact("n_images", len(numbers), arrays["n_images"]),
        absolute("miou_f64", scores, arrays["miou_f64"], 1e-9),
        absolute("best_f64", np.max(scores), arrays["best_f64"], 1e-9),
    ]
