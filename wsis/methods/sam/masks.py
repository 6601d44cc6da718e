"""From logits on a coarse map to a mask in its box: cut out, enlarged, tidied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from wsis.methods.sam.prompts import Answers
from wsis.structures import Crop, ProxyMasks, Seed
from wsis.structures.boxes import box_to_slices

Grid = tuple[np.ndarray, np.ndarray]
"""Positions of the rows and columns of some pixels of an image, in cells of a map; see :func:`positions`."""


def positions(pixels: slice, scale: float, size: int) -> np.ndarray:
    """Where the centres of an image's pixels lie on a map, whose cells have theirs at whole numbers; what lies beyond
    the outermost centres is drawn onto them, as PyTorch's bilinear interpolation has it.

    Args:
        pixels: of the image, along one side.
        scale: cells per pixel.
        size: cells of the map's side.

    Returns:
        (n,) float64 in [0, size - 1].
    """
    centres = (np.arange(pixels.start, pixels.stop) + 0.5) * scale - 0.5
    return centres.clip(0, size - 1)


def cut(logits: np.ndarray, grid: Grid) -> tuple[np.ndarray, tuple[int, int]]:
    """The cells that enlarging to a grid needs, as float16, and the first row and column of them."""
    rows, columns = grid
    y, x = int(rows[0]), int(columns[0])
    window = logits[y : int(rows[-1]) + 2, x : int(columns[-1]) + 2]
    return window.astype(np.float16), (y, x)


def enlarge(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear samples of a map on a grid: (h, w), positions (H,) and (W,) to (H, W) float32."""
    return _along(_along(values.astype(np.float32), rows).T, columns).T


def _along(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    low = where.astype(np.intp)
    first, second = values[low], values[np.minimum(low + 1, len(values) - 1)]
    return first + (where - low).astype(np.float32)[:, None] * (second - first)


def tidied(mask: np.ndarray, min_part: float) -> np.ndarray:
    """A mask without small parts (8-connected) and small holes (4-connected).

    Args:
        mask: (h, w) bool.
        min_part: share of the largest part's area below which a part goes and a hole is filled, in [0, 1).

    Returns:
        (h, w) bool.
    """
    labels, areas = _parts(mask, 8)
    least = min_part * areas[1:].max(initial=0)
    kept = mask & (areas >= least)[labels]
    labels, areas = _parts(np.pad(~kept, 1, constant_values=True), 4)
    small = areas < least
    small[[0, labels[0, 0]]] = False  # the mask itself, and what is around it
    return kept | small[labels][1:-1, 1:-1]


def _parts(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Label of each pixel, 0 = outside of the mask, and the area of each label."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=connectivity
    )
    return labels, stats[:, cv2.CC_STAT_AREA]


def seed_maps(
    answers: Iterable[Answers], boxes: np.ndarray, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """What :class:`MaskRefiner` needs of the answers: of each map the cells at its box alone.

    Args:
        answers: of the boxes, in their order, some at a time.
        boxes: (N, 4) XYXY in pixels of the image.
        size: height and width of the image.
    """
    cuts, scores, left = [], [np.zeros(0, np.float32)], iter(boxes)
    scales, shape = np.ones(2), np.ones(2, np.int64)
    for some in answers:
        scales, shape = np.array(some.spans) / size, np.array(some.logits.shape[1:])
        grids = (_grid(box, size, scales, shape) for _, box in zip(some.scores, left, strict=False))
        cuts += [cut(*each) for each in zip(some.logits, grids, strict=True)]
        scores.append(some.scores)
    logits = np.fromiter((window for window, _ in cuts), dtype=object, count=len(cuts))
    corners = np.array([corner for _, corner in cuts], dtype=np.int64).reshape(-1, 2)
    return {
        "logits": logits,
        "corners": corners,
        "scores": np.concatenate(scores),
        "scales": scales,
        "shape": shape,
    }


def _grid(box: np.ndarray, size: tuple[int, int], scales: np.ndarray, shape: np.ndarray) -> Grid:
    """Of the pixels that a box touches."""
    rows, columns = box_to_slices(box, *size)
    return positions(rows, scales[0], shape[0]), positions(columns, scales[1], shape[1])


@dataclass(frozen=True)
class MaskRefiner:
    """Enlarges each map inside its box and tidies the mask; a box without a pixel is ``empty``.

    Args:
        min_part: see :func:`tidied`.
    """

    min_part: float

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`."""
        maps, size = seed.maps, (seed.height, seed.width)
        crops: list[Crop] = []
        for box, logits, (y, x) in zip(seed.boxes, maps["logits"], maps["corners"], strict=True):
            rows, columns = _grid(box, size, maps["scales"], maps["shape"])
            mask = tidied(enlarge(logits, rows - y, columns - x) > 0, self.min_part)
            window = box_to_slices(box, *size)
            crops.append((mask, window[1].start, window[0].start))
        return ProxyMasks.from_crops(seed, crops, scores=maps["scores"].tolist())
