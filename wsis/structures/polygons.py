"""Masks as polygons and back. Corners are in continuous pixel coordinates, so a polygon that follows the edges of the
pixels is drawn again as the very same mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from scipy import ndimage
from scipy.spatial import KDTree
from skimage import measure

from wsis.structures.rle import RLE, decode_mask, encode_crop


@dataclass(frozen=True)
class Part:
    """One connected part of a mask; pixels that touch at a corner only are two parts.

    Args:
        outline: (N, 2) x, y of the corners, each once.
        holes: outlines of its holes.
    """

    outline: np.ndarray
    holes: list[np.ndarray]


def mask_to_parts(mask: RLE, tolerance: float = 0.0) -> list[Part]:
    """The outlines of a mask, the largest part first.

    Args:
        mask: code of the full image.
        tolerance: pixels that an outline may be off when its corners are thinned out (Douglas and Peucker); 0 keeps
            every corner, and so every pixel.
    """
    x, y, width, height = (int(v) for v in coco_mask.toBbox(mask))
    labels, _ = ndimage.label(decode_mask(mask)[y : y + height, x : x + width])
    parts: list[tuple[int, Part]] = []
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        part = np.pad(labels[window] == number, 1)
        origin = np.array([x + window[1].start - 1, y + window[0].start - 1], dtype=np.float64)
        rings = [_corners(contour) + origin for contour in measure.find_contours(part, 0.5)]
        rings.sort(key=lambda ring: -abs(signed_area(ring)))
        if tolerance:
            rings = [_thinned(ring, tolerance) for ring in rings]
        parts.append((int(part.sum()), Part(rings[0], rings[1:])))
    parts.sort(key=lambda sized: -sized[0])
    return [part for _, part in parts]


def _corners(contour: np.ndarray) -> np.ndarray:
    """The corners that a contour at half height turns around.

    Each point of such a contour is the middle of an edge between two pixels; where two neighbours are of edges of
    different direction, the corner that both edges end at lies between them.

    Args:
        contour: (N, 2) row, column of pixel centres, the last point being the first.

    Returns:
        (M, 2) x, y in continuous coordinates, integers.
    """
    points = contour[:, ::-1] + 0.5
    upright = points[:, 0] == np.rint(points[:, 0])  # an edge between neighbours in a row
    first, second = points[:-1], points[1:]
    corners = np.where(
        upright[:-1, None],
        np.stack([first[:, 0], second[:, 1]], axis=1),
        np.stack([second[:, 0], first[:, 1]], axis=1),
    )
    return corners[upright[:-1] != upright[1:]]


def _thinned(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """A ring with fewer corners; as it is, where fewer than three would be left."""
    closed = measure.approximate_polygon(np.vstack([ring, ring[:1]]), tolerance)
    return closed[:-1] if len(closed) > 3 else ring


def signed_area(ring: np.ndarray) -> float:
    """Area of a ring (N, 2) in pixels, by the shoelace formula; negative in the other sense of rotation."""
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def joined(rings: list[np.ndarray]) -> np.ndarray:
    """One ring of several, each hung on what precedes it by a seam between their nearest corners.

    The seam is run through there and back, so it encloses nothing: what is inside of an odd number of the rings is
    inside of the one. A hole is cut open that way, and parts that lie apart are strung together.

    Args:
        rings: (N_i, 2) each, at least one.
    """
    whole = rings[0]
    for ring in rings[1:]:
        apart, nearest = KDTree(whole).query(ring)
        start = int(apart.argmin())
        at, turned = nearest[start], np.roll(ring, -start, axis=0)
        whole = np.vstack([whole[: at + 1], turned, turned[:1], whole[at:]])
    return whole


def rings_to_rle(rings: list[np.ndarray], height: int, width: int) -> RLE:
    """The mask of all pixels inside of any of the rings.

    Args:
        rings: (N, 2) x, y each; at least one.
        height, width: size of the image.
    """
    code = coco_mask.merge(coco_mask.frPyObjects([flat(r) for r in rings], height, width))
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def flat(ring: np.ndarray) -> list[float]:
    """A ring as COCO has it: x, y, x, y, ..., whole numbers without a fraction."""
    return [int(v) if v == int(v) else round(float(v), 3) for v in ring.ravel()]


def unflat(polygon: Any) -> np.ndarray:
    """COCO's x, y, x, y, ... as a ring (N, 2)."""
    return np.asarray(polygon, dtype=np.float64).reshape(-1, 2)


def window_to_rle(window: np.ndarray, x0: int, y0: int, height: int, width: int) -> RLE:
    """A mask on a window of the image, which may stick out of it.

    Args:
        window: (h, w) bool.
        x0, y0: column and row of its first pixel.
        height, width: size of the image.
    """
    top, left = max(-y0, 0), max(-x0, 0)
    inside = window[top : max(height - y0, 0), left : max(width - x0, 0)]
    if not inside.size:
        return encode_crop(np.zeros((1, 1), dtype=bool), 0, 0, height, width)
    return encode_crop(inside, x0 + left, y0 + top, height, width)
