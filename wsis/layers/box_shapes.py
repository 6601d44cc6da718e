"""Masks that a box has by itself, and which of them stands in where a teacher has failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsis.config.params import key
from wsis.config.rules import at_least_below
from wsis.structures import Crop, Seed
from wsis.structures.boxes import box_to_slices


def filled_box(box: np.ndarray, height: int, width: int) -> Crop:
    """Every pixel that the box touches.

    Args:
        box: (4,) XYXY.
        height, width: size of the image.
    """
    rows, columns = box_to_slices(box, height, width)
    filled = np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
    return filled, columns.start, rows.start


def inscribed_ellipse(box: np.ndarray, height: int, width: int) -> Crop:
    """Every pixel whose centre lies in the ellipse that touches the box's four sides.

    The pixel nearest to the box's centre always belongs to it, so no box gives an empty mask.

    Args:
        box: (4,) XYXY.
        height, width: size of the image.
    """
    rows, columns = box_to_slices(box, height, width)
    distance = box_distance(box, rows, columns)
    inside = distance <= 1
    inside[np.unravel_index(distance.argmin(), distance.shape)] = True
    return inside, columns.start, rows.start


def centred(probability: np.ndarray, weight: float) -> np.ndarray:
    """Foreground probabilities of a box that say more of its middle and less of its corners.

    The log-odds rise by ``weight (2/3 - d)``, where d is 0 in the middle, 1 on the inscribed ellipse and 2 in the
    corners. Their mean over the box stays.

    Args:
        probability: (h, w) float32 in [0, 1], the pixels of the box; 0 and 1 stay what they are.
        weight: at least 0; 0 = as they are.

    Returns:
        (h, w) float32 in [0, 1].
    """
    if not weight:
        return probability
    height, width = probability.shape
    edges = np.array([0, 0, width, height])
    odds = np.exp(weight * (2 / 3 - box_distance(edges, slice(0, height), slice(0, width))))
    foreground = probability * odds
    return (foreground / (foreground + 1 - probability)).astype(np.float32)


def box_distance(box: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """(h, w) squared distances of pixel centres from the box's, in half sides: 1 on the inscribed ellipse."""
    x0, y0, x1, y1 = (float(v) for v in box)
    dx = (np.arange(columns.start, columns.stop) + 0.5 - (x0 + x1) / 2) / max((x1 - x0) / 2, 1e-6)
    dy = (np.arange(rows.start, rows.stop) + 0.5 - (y0 + y1) / 2) / max((y1 - y0) / 2, 1e-6)
    return dy[:, None] ** 2 + dx[None, :] ** 2


def covers(mask: np.ndarray, pixels: int, share: float) -> bool:
    """Whether a mask has a pixel, and at least a share of those of its box."""
    return bool(mask.any() and mask.sum() >= share * pixels)


@dataclass(frozen=True)
class StandInParams:
    """What is done about masks that are too small to be right.

    Attributes:
        min_coverage: Share of its box below which a mask is a failure, and the inscribed ellipse stands in with status
            "fallback"; 0 = masks stay as they are.
    """

    min_coverage: float = key(0.0, at_least_below(0, 1))

    def apply(
        self, seed: Seed, crops: Sequence[Crop], status: Sequence[str]
    ) -> tuple[list[Crop], list[str]]:
        """The masks and statuses of an image's boxes, with ellipses for failures.

        Args:
            seed: of the image.
            crops: N masks.
            status: N statuses.
        """
        made, found = list(crops), list(status)
        for i, box in enumerate(seed.boxes if self.min_coverage else ()):
            ellipse = inscribed_ellipse(box, seed.height, seed.width)
            if not covers(made[i][0], ellipse[0].size, self.min_coverage):
                made[i], found[i] = ellipse, "fallback"
        return made, found
