"""Masks as COCO polygons, for programs that do not read run-length codes.

The outline runs through the middle between a pixel inside and its neighbour outside; diagonal
neighbours are not connected. Holes become polygons of their own, which COCO readers fill.
"""

from __future__ import annotations

import numpy as np

_TOP, _LEFT, _BOTTOM, _RIGHT = range(4)
_SEGMENTS = {
    # pixels of a 2 x 2 square (upper left 8, upper right 4, lower left 2, lower right 1) to the
    # outline's pieces in it, from edge to edge, the mask on the right-hand side
    8: ((_TOP, _LEFT),),
    4: ((_RIGHT, _TOP),),
    2: ((_LEFT, _BOTTOM),),
    1: ((_BOTTOM, _RIGHT),),
    7: ((_LEFT, _TOP),),
    11: ((_TOP, _RIGHT),),
    13: ((_BOTTOM, _LEFT),),
    14: ((_RIGHT, _BOTTOM),),
    12: ((_RIGHT, _LEFT),),
    3: ((_LEFT, _RIGHT),),
    10: ((_TOP, _BOTTOM),),
    5: ((_BOTTOM, _TOP),),
    9: ((_TOP, _LEFT), (_BOTTOM, _RIGHT)),
    6: ((_RIGHT, _TOP), (_LEFT, _BOTTOM)),
}
_OFFSETS = ((-0.5, 0.0), (0.0, -0.5), (0.5, 0.0), (0.0, 0.5))
"""Row and column of the middle of an edge, from the middle of the square."""

Point = tuple[float, float]


def _pieces(mask: np.ndarray) -> list[tuple[Point, Point]]:
    """All pieces of outline as (row, column) points of the mask, squares in reading order."""
    padded = np.pad(mask != 0, 1).astype(np.int64)
    code = 8 * padded[:-1, :-1] + 4 * padded[:-1, 1:] + 2 * padded[1:, :-1] + padded[1:, 1:]
    rows, columns = np.nonzero((code > 0) & (code < 15))
    pieces = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        for ends in _SEGMENTS[int(code[row, column])]:
            first, last = (
                (row - 0.5 + _OFFSETS[end][0], column - 0.5 + _OFFSETS[end][1]) for end in ends
            )
            pieces.append((first, last))
    return pieces


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The closed outlines of a mask.

    Args:
        mask: (H, W) bool or integer, non-zero = inside.

    Returns:
        Per outline (N, 2) float64 row and column, pixel centres at whole numbers, last point = first
        point; ordered by their topmost, then leftmost piece.
    """
    pieces = _pieces(mask)
    following = {first: (last, rank) for rank, (first, last) in enumerate(pieces)}
    closed = []
    for first, _ in pieces:
        if first not in following:
            continue
        loop, ranks, point = [], [], first
        while point in following:
            point, rank = following.pop(point)
            loop.append(point)
            ranks.append(rank)
        start = int(np.argmax(ranks))  # where the last piece, in reading order, ends
        closed.append(np.array([*loop[start:], *loop[: start + 1]]))
    return closed


def simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Douglas and Peucker: leaves out points nearer than the tolerance to the line of the others.

    Args:
        points: (N, 2) float, N >= 1; first and last are kept.
        tolerance: in pixels; 0 keeps all.

    Returns:
        (M, 2), M <= N, in the same order.
    """
    if tolerance <= 0:
        return points
    kept = np.zeros(len(points), dtype=bool)
    kept[[0, -1]] = True
    spans = [(0, len(points) - 1)]
    while spans:
        start, end = spans.pop()
        between = points[start + 1 : end]
        if len(between) == 0:
            continue
        distance = _distance_to_segment(between, points[start], points[end])
        if distance.max() > tolerance:
            middle = start + 1 + int(distance.argmax())
            kept[middle] = True
            spans += [(start, middle), (middle, end)]
    return points[kept]


def _distance_to_segment(points: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(N,) distances of points (N, 2) to the segment between two points, which may be one.

    Outlines on a grid have many equal distances, told apart by rounding alone. The line is written
    with its angle because the recorded polygons were made with scikit-image, which does so.
    """
    direction = last - first
    angle = -np.arctan2(direction[0], direction[1])
    cosine, sine = np.cos(angle), np.sin(angle)
    line = first[1] * sine + first[0] * cosine
    across = np.abs(points[:, 0] * cosine + points[:, 1] * sine - line)
    beside = ((points - first) @ direction > 0) & ((last - points) @ direction > 0)
    to_ends = np.minimum(np.hypot(*(points - first).T), np.hypot(*(points - last).T))
    return np.where(beside, across, to_ends)


def mask_to_polygons(mask: np.ndarray, tolerance: float = 1.0) -> list[list[float]]:
    """A mask as the polygons of a COCO ``segmentation``.

    Args:
        mask: (H, W) bool or integer, non-zero = inside.
        tolerance: of :func:`simplify`, in pixels.

    Returns:
        Polygons x, y, x, y, ..., closed, no coordinate below 0, of at least three points; none for
        an empty mask or where every outline is smaller than the tolerance.
    """
    polygons = []
    for outline in outlines(mask):
        points = simplify(outline, tolerance)
        if len(points) >= 3:
            polygons.append(points[:, ::-1].clip(min=0).ravel().tolist())
    return polygons
