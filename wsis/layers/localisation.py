"""From a score map to a box, and scores of boxes and pixels, as the literature on localisation by tags has them.

Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right" (CVPR 2020) define MaxBoxAccV2, PxAP and
PIoU; the conventions of boxes are those in which the published numbers of BAS and its rivals are given.
"""

from __future__ import annotations

import cv2
import numpy as np

from wsis.layers.iou import ratio

IOUS = (0.3, 0.5, 0.7)
"""At which MaxBoxAccV2 counts a box as right."""
EPSILON = 1e-5
BINS = 1002
"""Of :func:`score_histogram`; the last two stay empty, as in the published tool."""


def normalised_map(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The map stretched to 0..1 by its minimum and maximum, then enlarged: bilinear, corners not aligned.

    Args:
        scores: (h, w) float32.
        size: height and width of the result.

    Returns:
        float32; 0 everywhere if the map is constant. Enlarging comes last, so that the maximum may be below 1.
    """
    low, high = scores.min(), scores.max()
    stretched = (scores - low) / (high - low + np.float32(EPSILON))
    return cv2.resize(stretched.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


def largest_component(mask: np.ndarray) -> np.ndarray | None:
    """Box of the largest component; pixels that touch at a corner are connected, and of components of one size that
    counts whose first pixel comes first, row by row.

    Args:
        mask: (H, W) bool.

    Returns:
        (4,) XYXY int64 with exclusive far edges; None if the mask is empty.
    """
    number, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    if number == 1:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = 1 + np.flatnonzero(areas == areas.max())
    first = largest[0]
    if len(largest) > 1:
        flat = labels.ravel()
        first = flat[np.isin(flat, largest).argmax()]
    x, y, width, height, _ = stats[first]
    return np.array([x, y, x + width, y + height], dtype=np.int64)


def boxes_of_map(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The box of each threshold: of the largest component of what is above it, or of the whole map if nothing is.

    Args:
        scores: (H, W), see :func:`normalised_map`.
        thresholds: (T,).

    Returns:
        (T, 4) XYXY int64 with exclusive far edges.
    """
    height, width = scores.shape
    whole = np.array([0, 0, width, height], dtype=np.int64)
    found = (largest_component(scores > threshold) for threshold in thresholds)
    return np.stack([whole if box is None else box for box in found])


def boxes_in_crop(
    boxes: np.ndarray, size: tuple[int, int], resize: int = 256, crop: int = 224
) -> np.ndarray:
    """True boxes as the published protocol sees them in the centre crop of an image that was made square.

    Args:
        boxes: (N, 4) XYXY in pixels of the image.
        size: its height and width.
        resize, crop: sides of the square and of the crop.

    Returns:
        (N, 4) int64, truncated, far edges inclusive. A box outside of the crop has a negative side.
    """
    height, width = size
    scale = resize / np.array([width, height, width, height], dtype=np.float64)
    moved = boxes * scale - (resize - crop) // 2
    return np.concatenate(
        [moved[:, :2].clip(min=0), moved[:, 2:].clip(max=crop - 1)], axis=1
    ).astype(np.int64)


def localisation_accuracies(iou: np.ndarray, ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Shares of the objects that are found.

    Args:
        iou: (N, T) of each object at each threshold, the largest one over its true boxes.
        ranks: (N,) how many classes have a higher score than the object's; the true class's map counts whatever it is.

    Returns:
        (T,) each: ``gt_known`` (IoU of at least 0.5), ``top1`` and ``top5`` (and a rank below 1 or 5), ``iou30``,
        ``iou50``, ``iou70``.
    """
    right = iou >= 0.5
    found = {f"iou{100 * bound:.0f}": (iou >= bound).mean(axis=0) for bound in IOUS}
    tops = {f"top{number}": (right & (ranks < number)[:, None]).mean(axis=0) for number in (1, 5)}
    return {"gt_known": right.mean(axis=0), **tops, **found}


def max_box_accuracy(iou: np.ndarray) -> float:
    """MaxBoxAccV2: the mean over IoU 0.3, 0.5 and 0.7 of the share of objects that are found at the threshold that is
    best for this IoU.

    Args:
        iou: see :func:`localisation_accuracies`.
    """
    return float(np.mean([(iou >= bound).mean(axis=0).max() for bound in IOUS]))


def score_histogram(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pixels of the object and of the background by their score, in steps of 0.001.

    Args:
        scores: (H, W) in [0, 1].
        truth: (H, W) uint8; 1 = object, 0 = background, anything else is not counted.

    Returns:
        (2, BINS) int64: background, object; add those of several images.
    """
    counted = truth <= 1
    bins = np.minimum((scores[counted].astype(np.float64) * 1000).astype(np.int64), BINS - 3)
    places = bins + BINS * truth[counted].astype(np.int64)
    return np.bincount(places, minlength=2 * BINS).reshape(2, BINS)


def pixel_scores(histogram: np.ndarray) -> tuple[float, float]:
    """PxAP, the area under precision over recall, and PIoU, the best IoU of all pixels of a data set.

    Args:
        histogram: see :func:`score_histogram`.

    Returns:
        Both in [0, 1]; NaN where no pixel is an object's.
    """
    wrong, hit = histogram[:, ::-1].cumsum(axis=1).astype(np.float64)
    total = hit[-1]
    if not total:
        return float("nan"), float("nan")
    seen = hit + wrong > 0
    precision, recall = (hit / (hit + wrong).clip(min=1))[seen], (hit / total)[seen]
    average = (precision[1:] * np.diff(recall)).sum()
    return float(average), float(ratio(hit, wrong + total).max())


def object_mask(instances: np.ndarray, ignored: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What counts as object in a small image.

    Args:
        instances: (N, H, W) bool masks.
        ignored: (H, W) bool; where there is an object it counts all the same.
        size: height and width of the result, by the nearest pixel.

    Returns:
        (h, w) uint8: 1 = object, 0 = background, 255 = not counted.
    """
    objects = instances.any(axis=0)
    truth = np.where(objects, 1, np.where(ignored, 255, 0)).astype(np.uint8)
    return cv2.resize(truth, size[::-1], interpolation=cv2.INTER_NEAREST)
