"""Contour F of label maps: the classes that are there, where they are, against a loop over all classes."""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.timing import Row, interleave, timing_rows
from wsis.layers.contour import boundary_map, contour_counts, matching_radius

PLAIN = "all classes, whole image (plain)"


def class_loop(target: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """As :func:`wsis.layers.contour.contour_counts`."""
    reach = np.arange(-(radius := matching_radius(*target.shape)), radius + 1)
    disk = (reach[:, None] ** 2 + reach**2 <= radius**2).astype(np.uint8)
    counts = np.zeros((num_classes, 4), dtype=np.int64)
    for label in range(1, num_classes + 1):
        sides = [boundary_map(labels == label) for labels in (target, prediction)]
        near = [cv2.dilate(side.astype(np.uint8), disk).astype(bool) for side in sides]
        matched = [np.count_nonzero(sides[i] & near[1 - i]) for i in (0, 1)]
        counts[label - 1] = [*matched, *map(np.count_nonzero, sides)]
    return counts


def benchmark_contour(
    height: int = 375, width: int = 500, classes: int = 21, images: int = 12, repeats: int = 5
) -> list[Row]:
    """Boundary pixels of label maps with one to three ellipses of different classes, which is what VOC's images have,
    against maps turned by 3 degrees.

    ``counts that differ`` are those that are not the plain way's.

    Args:
        height, width: of the images in pixels.
        classes: background included.
        images: number of images.
        repeats: rounds that count.
    """
    random = np.random.default_rng(0)
    targets = [_ellipses(random, height, width, classes, 1 + i % 3) for i in range(images)]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 3, 1.02)
    pairs = [
        (t, cv2.warpAffine(t, turn, (width, height), flags=cv2.INTER_NEAREST)) for t in targets
    ]
    kinds = {PLAIN: class_loop, "present classes, where they are": contour_counts}
    found = {
        name: np.stack([count(*pair, classes - 1) for pair in pairs])
        for name, count in kinds.items()
    }
    works = {
        name: lambda count=count: [count(*pair, classes - 1) for pair in pairs]
        for name, count in kinds.items()
    }
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    rows = timing_rows(interleave(works, repeats), PLAIN)
    cv2.setNumThreads(threads)
    for row in rows:
        row["images / s"] = images / row["seconds"]
        row["counts that differ"] = int((found[row["way"]] != found[PLAIN]).sum())
    return rows


def _ellipses(
    random: np.random.Generator, height: int, width: int, classes: int, number: int
) -> np.ndarray:
    """(height, width) uint8."""
    label = np.zeros((height, width), dtype=np.uint8)
    for kind in random.choice(np.arange(1, classes), min(number, classes - 1), replace=False):
        centre = int(random.integers(width)), int(random.integers(height))
        axes = tuple(int(random.uniform(0.05, 0.3) * side) for side in (width, height))
        cv2.ellipse(label, centre, axes, random.uniform(0, 180), 0, 360, int(kind), -1)
    return label
