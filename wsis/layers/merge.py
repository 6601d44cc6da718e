"""Masks of one image made disjoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from wsis.layers.box_shapes import box_distance
from wsis.structures.proxy_masks import Crop


def merge_by_area(
    crops: Sequence[Crop], areas: ArrayLike, height: int, width: int
) -> list[np.ndarray]:
    """Gives every contested pixel to the mask with the smaller area; of equal ones, to the earlier mask.

    Args:
        crops: N windows of masks, wholly inside the image.
        areas: (N,) what to go by, for example the areas of the boxes.
        height, width: image size in pixels.

    Returns:
        What is left of each mask: N arrays (h, w) bool on the same windows, disjoint in the image.
    """
    order = np.argsort(np.asarray(areas), kind="stable")[::-1]
    owner = np.zeros((height, width), dtype=np.int32)
    windows = [owner[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] for mask, x0, y0 in crops]
    for i in order:
        windows[i][crops[i][0]] = i + 1
    return [window == i for i, window in enumerate(windows, start=1)]


def merge_by_distance(
    crops: Sequence[Crop], boxes: np.ndarray, height: int, width: int
) -> list[np.ndarray]:
    """Gives every contested pixel to the mask whose box's middle is nearest; of equal ones, to the earlier mask.

    The distance is in half sides of the box, 1 on its inscribed ellipse, times the box's area: boxes of one size share
    what they have in common, and one that lies in a larger one keeps its own.

    Args:
        crops: N windows of masks, wholly inside the image.
        boxes: (N, 4) XYXY.
        height, width: image size in pixels.

    Returns:
        What is left of each mask: N arrays (h, w) bool on the same windows, disjoint in the image.
    """
    owner = np.zeros((height, width), dtype=np.int32)
    least = np.full((height, width), np.inf)
    places = []
    for i, ((mask, x0, y0), box) in enumerate(zip(crops, boxes, strict=True), start=1):
        place = slice(y0, y0 + mask.shape[0]), slice(x0, x0 + mask.shape[1])
        distance = np.sqrt(box_distance(box, *place)) * float((box[2:] - box[:2]).prod())
        nearer = mask & (distance < least[place])
        owner[place][nearer] = i
        least[place][nearer] = distance[nearer]
        places.append(place)
    return [owner[place] == i for i, place in enumerate(places, start=1)]
