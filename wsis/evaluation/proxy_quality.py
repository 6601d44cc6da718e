"""How good proxy masks are: against true masks, and, where there are none, against the boxes they came from.

All metrics are shares in [0, 1].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from tabulate import tabulate

from wsis.data.source import CocoSource
from wsis.errors import counted
from wsis.evaluation.proxy_pairs import MaskPairs, pair_masks, segmentation_kind
from wsis.layers.contour import boundary_counts, contour_f, matching_radius
from wsis.layers.iou import box_iou, class_means
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.rle import RLE, decode_crop, rle_area

IOU_THRESHOLDS = (0.25, 0.50, 0.70, 0.75)
SIZE_NAMES = ("small", "medium", "large")
SIZE_EDGES = (32**2, 96**2)
"""Areas in pixels where COCO's medium and large objects begin."""
_COLUMNS = (
    *("count", "scored", "mIoU", "class_mIoU", "mIoU_outside_ignored"),
    *("IoU25", "IoU50", "IoU70", "IoU75", "contour_F", "box_fit", "found", "coverage", "ignored"),
)
_HEADERS = {
    "class_mIoU": "class mean",
    "mIoU_outside_ignored": "outside ignored",
    "contour_F": "contour F",
    "box_fit": "box fit",
}


def proxy_quality(proxy: CocoSource, gt: CocoSource | None = None) -> dict[str, Any]:
    """Scores a proxy-mask file.

    Args:
        proxy: the file; crowd regions are left out.
        gt: the same annotations with true masks, or None.

    Returns:
        Plain numbers, None where one cannot be computed: ``ground_truth`` ("raster", "polygon", "mixed" or None),
        ``status`` (status to number of annotations), ``without_true_mask`` (annotations that the ground truth has no
        mask for, or None), and ``overall``, ``per_class``, ``per_size``, ``per_status`` with, for each group:

        - ``count``: annotations; ``found``: share of them that have a mask;
        - ``box_fit``: mean IoU of the mask's tight box with the given box, no mask counting 0;
        - ``coverage``, ``ignored``: mean area of mask and of ignored pixels, as share of the box, over masks found;

        and with ground truth, over the ``scored`` annotations that have a true mask:

        - ``mIoU``: mean IoU with the true mask, no mask counting 0, void pixels of the image left out of both;
          ``IoU25`` ... ``IoU75``: share of annotations with at least that IoU;
        - ``contour_F``: mean F of the boundary within 0.008 of the image's diagonal, counted likewise;
        - ``mIoU_outside_ignored``: the mean IoU, the ignored pixels left out of both masks too;
        - ``class_mIoU`` (overall only): mean of the classes' ``mIoU``.

        ``per_score`` is a list of such groups: the masks with a score above ``above``, which rises, as students leave
        masks out by ``MODEL.ROI_MASK_HEAD.SCORE_THRESHOLD``; empty where all masks have one score.

        ``void_as_background`` (None without ground truth) has ``mIoU``, ``class_mIoU`` and ``IoU25`` ... ``IoU75`` with
        void pixels counted as background, and in ``class_mIoU`` 0 for a class without a mask: as BoxCaseg's numbers
        are (mIoU*).

        Sizes are COCO's, by the area of the true mask, else of the box.

    Raises:
        DataError: see :func:`wsis.evaluation.proxy_pairs.pair_masks`.
    """
    pairs = pair_masks(proxy, gt)
    values, areas = measure_pairs(pairs, gt is not None)
    sizes = np.searchsorted(SIZE_EDGES, areas, side="right")
    status = np.array(pairs.status, dtype=object)
    names = np.array(pairs.class_names, dtype=object)[pairs.classes]
    everything = np.ones(len(status), dtype=bool)
    result: dict[str, Any] = {
        "ground_truth": segmentation_kind(gt.annotations) if gt is not None else None,
        "status": {name: int(np.sum(status == name)) for name in sorted(set(pairs.status))},
        "without_true_mask": int(np.isnan(values["mIoU"]).sum()) if gt is not None else None,
        "overall": _summary(values, everything),
        "per_class": {n: _summary(values, names == n) for n in pairs.class_names},
        "per_size": {n: _summary(values, sizes == i) for i, n in enumerate(SIZE_NAMES)},
        "per_status": {n: _summary(values, status == n) for n in sorted(set(pairs.status))},
        "per_score": [
            {"above": t, **_summary(values, pairs.scores > t)}
            for t in _score_thresholds(pairs.scores[values["found"] > 0])
        ],
    }
    if pairs.num_crowd:
        result["status"]["crowd"] = pairs.num_crowd
    if gt is not None:
        of_classes = [group["mIoU"] for group in result["per_class"].values()]
        result["overall"]["class_mIoU"] = _mean(np.array(of_classes, dtype=np.float64))
    result["void_as_background"] = _void_as_background(pairs, values) if gt is not None else None
    return result


def _score_thresholds(scores: np.ndarray) -> list[float]:
    """0, and what a tenth, two tenths ... of the (N,) scores are at most, rounded down to two digits; below 1."""
    if not len(scores) or scores.min() == scores.max():
        return []
    tenths = np.quantile(scores, np.arange(1, 10) / 10, method="lower")
    return sorted({0.0, *(np.floor(tenths[tenths < 1] * 100) / 100).tolist()})


def _void_as_background(pairs: MaskPairs, values: dict[str, np.ndarray]) -> dict[str, Any]:
    """See :func:`proxy_quality`."""
    iou = values["mIoU"].copy()
    void = np.array([code is not None for code in pairs.void], dtype=bool)
    rows = void & (values["found"] > 0) & ~np.isnan(iou)
    iou[rows] = _with_truth(paired_rle_iou, pairs, rows, [None] * len(iou))
    scored = ~np.isnan(iou)
    means = class_means(iou[scored], pairs.classes[scored], len(pairs.class_names))
    shares = {f"IoU{round(100 * t)}": _mean(iou[scored] >= t) for t in IOU_THRESHOLDS}
    return {"mIoU": _mean(iou), "class_mIoU": float(np.nan_to_num(means).mean()), **shares}


def measure_pairs(pairs: MaskPairs, with_truth: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The metrics of :func:`proxy_quality` mask by mask.

    Args:
        pairs: N masks.
        with_truth: whether they were paired with a ground truth.

    Returns:
        ``found``, ``box_fit``, ``coverage``, ``ignored`` and, with truth, ``mIoU``, ``contour_F``,
        ``mIoU_outside_ignored`` to (N,) float64, NaN where a mask does not take part; and the (N,) areas in pixels that
        sizes go by.
    """
    n = len(pairs.masks)
    found = np.array([mask is not None for mask in pairs.masks], dtype=bool)
    masks = [mask for mask in pairs.masks if mask is not None]
    box_areas = (pairs.boxes[:, 2:] - pairs.boxes[:, :2]).clip(min=0).prod(axis=1)
    values = {"found": found.astype(np.float64), "box_fit": np.zeros(n)}
    values["box_fit"][found] = box_fit(masks, pairs.boxes[found])
    for name, codes in (("coverage", pairs.masks), ("ignored", pairs.ignored)):
        known = found & (box_areas > 0)
        values[name] = np.divide(_areas(codes), box_areas, out=np.full(n, np.nan), where=known)
    if not with_truth:
        return values, box_areas

    true_areas = _areas(pairs.true_masks)
    known = true_areas > 0
    values["mIoU"] = np.where(known, 0.0, np.nan)
    values["mIoU"][known & found] = _with_truth(paired_rle_iou, pairs, known & found, pairs.void)
    values["contour_F"] = np.where(known, 0.0, np.nan)
    values["contour_F"][known & found] = _with_truth(
        paired_contour_f, pairs, known & found, pairs.void
    )
    values["mIoU_outside_ignored"] = values["mIoU"].copy()
    partly = known & np.array([code is not None for code in pairs.ignored], dtype=bool)
    skipped = [_union(*regions) for regions in zip(pairs.ignored, pairs.void, strict=True)]
    values["mIoU_outside_ignored"][partly] = _with_truth(paired_rle_iou, pairs, partly, skipped)
    return values, np.where(known, true_areas, box_areas)


def paired_rle_iou(
    first: Sequence[RLE], second: Sequence[RLE], without: Sequence[RLE | None] | None = None
) -> np.ndarray:
    """IoU of the i-th mask with the i-th mask, straight from the run-length codes.

    Args:
        first, second: N codes each, the i-th two of one image size.
        without: N codes of pixels to leave out of both masks, or None.

    Returns:
        (N,) float64; 0 where both masks are empty.

    Raises:
        ValueError: lists of unequal length, or masks of unequal size.
    """
    regions = [None] * len(first) if without is None else without
    out = np.zeros(len(first), dtype=np.float64)
    for i, (a, b, region) in enumerate(zip(first, second, regions, strict=True)):
        if list(a["size"]) != list(b["size"]):
            raise ValueError(f"pair {i}: masks of size {a['size']} and {b['size']}")
        if region is None:
            out[i] = coco_mask.iou([a], [b], [0])[0, 0]
            continue
        codes = [coco_mask.merge([a, b], intersect=True), coco_mask.merge([a, b])]
        codes += [coco_mask.merge([code, region], intersect=True) for code in codes]
        both, either, out_of_both, out_of_either = coco_mask.area(codes).astype(np.int64)
        out[i] = (both - out_of_both) / max(either - out_of_either, 1)
    return out


def paired_contour_f(
    first: Sequence[RLE], second: Sequence[RLE], without: Sequence[RLE | None]
) -> np.ndarray:
    """Boundary F of the i-th mask with the i-th mask, see :mod:`wsis.layers.contour`.

    Args:
        first, second, without: see :func:`paired_rle_iou`.

    Returns:
        (N,) float64; 1 where neither mask has a boundary.
    """
    counts = np.zeros((len(first), 4), dtype=np.int64)
    for i, (*codes, region) in enumerate(zip(first, second, without, strict=True)):
        height, width = codes[0]["size"]
        corners = xywh_to_xyxy(coco_mask.toBbox(codes))
        x0, y0 = np.maximum(corners[:, :2].min(axis=0) - 1, 0).astype(int)
        x1, y1 = np.minimum(corners[:, 2:].max(axis=0) + 1, (width, height)).astype(int)
        window = slice(y0, y1), slice(x0, x1)
        one, other = (decode_crop(code, *window) for code in codes)
        if region is not None:
            certain = ~decode_crop(region, *window)
            one, other = one & certain, other & certain
        counts[i] = boundary_counts(one, other, matching_radius(height, width))
    return contour_f(counts, absent=1.0)


def box_fit(masks: Sequence[RLE], boxes: np.ndarray) -> np.ndarray:
    """IoU of each mask's tight box (half-open, in pixels) with the box that it was made from.

    Args:
        masks: N codes.
        boxes: (N, 4) XYXY, clipped to the image.

    Returns:
        (N,) float64; 0 for an empty mask.
    """
    if not masks:
        return np.zeros(0)
    return box_iou(xywh_to_xyxy(coco_mask.toBbox(list(masks))), boxes)


def share_of_upper_bound(ap: float, upper_bound: float) -> float:
    """*Share*: a student's AP over the AP of the same student, images and schedule on true masks; NaN if that is 0."""
    return ap / upper_bound if upper_bound > 0 else float("nan")


def _with_truth(
    measure: Callable[..., np.ndarray],
    pairs: MaskPairs,
    rows: np.ndarray,
    without: list[RLE | None],
) -> np.ndarray:
    """A paired measure against the true mask for the rows (N,) bool, all of which have both masks."""
    every: tuple[Any, ...] = pairs.masks, pairs.true_masks, without
    return measure(*(list(itertools.compress(codes, rows)) for codes in every))


def _areas(codes: Sequence[RLE | None]) -> np.ndarray:
    """(N,) int64 pixels, 0 for None."""
    return np.array([0 if code is None else rle_area(code) for code in codes], dtype=np.int64)


def _union(first: RLE | None, second: RLE | None) -> RLE | None:
    if first is None or second is None:
        return first or second
    return coco_mask.merge([first, second])


def _summary(values: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, Any]:
    """The metrics of one group of annotations, see :func:`proxy_quality`."""
    out: dict[str, Any] = {"count": int(chosen.sum())}
    out.update({name: _mean(array[chosen]) for name, array in values.items()})
    if "mIoU" in values:
        ious = values["mIoU"][chosen]
        ious = ious[~np.isnan(ious)]
        out["scored"] = len(ious)
        out.update({f"IoU{round(100 * t)}": _mean(ious >= t) for t in IOU_THRESHOLDS})
    return out


def _mean(values: np.ndarray) -> float | None:
    """Mean of what is not NaN, None if nothing is left."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else None


def format_quality(quality: dict[str, Any]) -> str:
    """The result of :func:`proxy_quality` as one table: all masks, then by class, size,
    status, and score above a threshold; rows and columns that say nothing are left out.
    """
    overall = quality["overall"]
    columns = [c for c in _COLUMNS if c in overall and not (c == "ignored" and not overall[c])]
    if not overall["ignored"] and "mIoU_outside_ignored" in columns:
        columns.remove("mIoU_outside_ignored")
    groups = [("all", overall)]
    for kind in ("class", "size", "status"):
        full = {n: group for n, group in quality[f"per_{kind}"].items() if group["count"]}
        if kind != "status" or len(full) > 1:
            groups += [(f"{kind} {name}", group) for name, group in full.items()]
    groups += [(f"score > {group['above']:.2f}", group) for group in quality["per_score"]]
    rows = [[name, *(group.get(column) for column in columns)] for name, group in groups]
    table = tabulate(
        rows,
        headers=["", *(_HEADERS.get(c, c) for c in columns)],
        floatfmt=".3f",
        tablefmt="simple",
        missingval="-",
    )
    numbers = ", ".join(f"{name} {number}" for name, number in quality["status"].items())
    notes = [f"status: {numbers}"]
    if quality["ground_truth"]:
        notes.append(
            f"ground truth: {quality['ground_truth']} masks, "
            f"{counted(quality['without_true_mask'], 'annotation')} without one"
        )
        background = quality["void_as_background"]
        if abs(background["class_mIoU"] - (overall["class_mIoU"] or 0)) > 1e-9:
            shares = ", ".join(f"{background[f'IoU{k}'] or 0:.3f}" for k in (25, 50, 70, 75))
            notes.append(
                f"void as background, 0 for classes without a mask (BoxCaseg's mIoU*): class mean "
                f"{background['class_mIoU']:.3f}, IoU25/50/70/75 {shares}"
            )
    else:
        notes.append("ground truth: none; how well masks fit their boxes")
    return "\n".join([table, *notes])
