"""Recorded scores: IoU of masks and boxes, semantic segmentation, contours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.golden.compare import Comparison, absolute, close, each, exact
from tests.golden.frame import Arrays, cases, check
from tests.golden.reference import mask_iou
from wsis.layers.contour import boundary_map, contour_counts, contour_f
from wsis.layers.iou import box_iou, class_means
from wsis.layers.seg_metrics import class_iou, confusion_matrix, semantic_scores

IOU = 1e-6


@check("bana", "semseg_eval", "pred gt num_classes confusion mIoU fwIoU mACC pACC per_IoU per_Acc")
def bana_semseg_eval(arrays: Arrays) -> Iterator[Comparison]:
    """Percent, per-class values NaN for classes absent from the ground truth."""
    confusion = confusion_matrix(arrays["pred"], arrays["gt"], int(arrays["num_classes"]))
    scores = semantic_scores(confusion)
    got = {
        "mIoU": scores.mean_iou,
        "fwIoU": scores.frequency_weighted_iou,
        "mACC": scores.mean_accuracy,
        "pACC": scores.pixel_accuracy,
        "per_IoU": np.where(confusion.sum(axis=1) > 0, scores.iou, np.nan),
        "per_Acc": scores.accuracy,
    }
    yield exact("confusion", confusion, arrays["confusion"])
    yield from each(arrays, {name: 100 * np.asarray(v) for name, v in got.items()}, close)


@check(
    "boxcaseg",
    "metric",
    "pair_pred pair_gt pair_iou gt_instance_map pred image_index cls instance_id instance_iou"
    " miou_per_class miou_star iou#",
)
def boxcaseg_metric(arrays: Arrays) -> Iterator[Comparison]:
    """Instance IoU against a map of ids (void counts as background), class means, shares."""
    index, classes = arrays["image_index"], arrays["cls"]
    truth = arrays["gt_instance_map"][index] == arrays["instance_id"][:, None, None]
    iou = mask_iou(arrays["pred"], truth)
    means = np.nan_to_num(class_means(iou, classes - 1, len(arrays["miou_per_class"])))
    found = {
        "pair_iou": mask_iou(arrays["pair_pred"], arrays["pair_gt"]),
        "instance_iou": iou,
        "miou_per_class": means,
        "miou_star": means.mean(),
        **{f"iou{k}": (iou >= k / 100).mean() for k in cases(arrays, "iou#")},
    }
    yield from each(arrays, found, absolute, IOU)


@check("boxcaseg", "overlap_iou", "boxes_xyxy iou overlapped")
def boxcaseg_overlap_iou(arrays: Arrays) -> Iterator[Comparison]:
    """All pairs of boxes with exclusive far edges, corners truncated."""
    boxes = np.trunc(arrays["boxes_xyxy"])
    iou = box_iou(boxes[:, None], boxes[None])
    others = np.where(np.eye(len(boxes), dtype=bool), 0.0, iou)
    yield absolute("iou", iou, arrays["iou"], IOU)
    yield exact("overlapped", (others > 0.5).any(axis=1), arrays["overlapped"])


@check("boxcaseg", "proxy_box_iou", "mask_box gt_box iou")
def boxcaseg_proxy_box_iou(arrays: Arrays) -> list[Comparison]:
    """Pairs of boxes with inclusive corners."""
    iou = box_iou(arrays["mask_box"], arrays["gt_box"], inclusive=True)
    return [absolute("iou", iou, arrays["iou"], IOU)]


@check(
    "icam",
    "metrics",
    "n_images num_classes gt_# pred_# counts class_f mean_f_percent iou_percent miou_percent",
)
def icam_metrics(arrays: Arrays) -> Iterator[Comparison]:
    """Contour counts and F pooled over the images, IoU with absent classes as 0."""
    num_classes = int(arrays["num_classes"])
    counts, boundaries = [], {}
    confusion = np.zeros((num_classes + 2, num_classes + 2), dtype=np.int64)
    for i in cases(arrays, "gt_#"):
        gt, pred = arrays[f"gt_{i}"], arrays[f"pred_{i}"]
        counts.append(contour_counts(gt, pred, num_classes))
        # void in a prediction is a miss: one more class, which is never true
        confusion += confusion_matrix(
            np.minimum(pred, num_classes + 1), gt, num_classes + 2, ignore_label=255
        )
        if f"bmap_gt_fg_{i}" in arrays:
            boundaries[f"bmap_gt_fg_{i}"] = boundary_map((gt > 0) & (gt != 255))
    f_score = contour_f(np.sum(counts, axis=0), absent=1.0)
    iou = 100 * np.nan_to_num(class_iou(confusion)[: num_classes + 1])
    yield from each(arrays, {"n_images": len(counts), "counts": np.stack(counts)})
    yield absolute("class_f", f_score, arrays["class_f"], 1e-5)
    percent = {"mean_f_percent": 100 * f_score.mean(), "iou_percent": iou}
    yield from each(arrays, percent | {"miou_percent": iou.mean()}, absolute, 1e-3)
    yield from each(arrays, boundaries)


@check("bas", "wsss_seg_miou", "n_images pred_# gt_# iou_f64 miou_f64")
def bas_wsss_seg_miou(arrays: Arrays) -> Iterator[Comparison]:
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
    yield exact("n_images", len(numbers), arrays["n_images"])
    yield from each(arrays, {"iou_f64": scores.iou, "miou_f64": scores.mean_iou}, absolute, 1e-9)
