from __future__ import annotations

import json

import numpy as np
import pytest

from tests.golden.reference import mask_iou
from wsis.structures.polygons import mask_to_polygons, outlines, simplify
from wsis.structures.rle import decode_mask, segmentation_to_rle


def blobs(seed: int, shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    """Smooth random shapes, with holes and cut by the border."""
    noise = np.random.default_rng(seed).random(np.add(shape, 8))
    window = np.lib.stride_tricks.sliding_window_view(noise, (9, 9)).mean(axis=(2, 3))
    return window > 0.5


def inside(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre an outline encloses: crossings of the ray to the left."""
    rows, columns = np.indices(shape)
    crossings = np.zeros(shape, dtype=int)
    for (r0, c0), (r1, c1) in zip(outline[:-1], outline[1:], strict=True):
        low, high = sorted((r0, r1))
        at = c0 + (c1 - c0) * ((rows + 1e-3 - r0) / (r1 - r0)) if r0 != r1 else np.inf
        crossings += (rows + 1e-3 > low) & (rows + 1e-3 <= high) & (at < columns)
    return crossings % 2 == 1


@pytest.mark.parametrize("seed", range(5))
def test_outlines_enclose_the_mask(seed: int) -> None:
    mask = blobs(seed)
    enclosed = np.zeros(mask.shape, dtype=int)
    for outline in outlines(mask):
        assert (outline[0] == outline[-1]).all()
        assert len(np.unique(outline[:-1], axis=0)) == len(outline) - 1
        assert (np.abs(np.diff(outline, axis=0)).max(axis=1) <= 1).all()
        enclosed += inside(outline, mask.shape)
    np.testing.assert_array_equal(enclosed % 2 == 1, mask)


def test_one_pixel() -> None:
    mask = np.zeros((5, 6), dtype=np.uint8)
    mask[2, 3] = 1
    assert mask_to_polygons(mask, 0) == [[3, 2.5, 2.5, 2, 3, 1.5, 3.5, 2, 3, 2.5]]
    assert mask_to_polygons(mask, 1) == []


def test_nothing_and_everything() -> None:
    assert mask_to_polygons(np.zeros((4, 5)), 0) == []
    (polygon,) = mask_to_polygons(np.ones((4, 5), dtype=bool), 0)
    assert min(polygon) == 0 and max(polygon[::2]) == 4.5 and max(polygon[1::2]) == 3.5


def test_diagonal_neighbours_are_two_outlines_and_holes_one_more() -> None:
    assert len(outlines(np.eye(3))) == 3
    ring = np.ones((5, 5), dtype=bool)
    ring[2, 2] = False
    assert [len(outline) for outline in outlines(ring)] == [21, 5]


def test_simplify_keeps_ends_and_corners() -> None:
    line = np.stack([np.zeros(9), np.arange(9.0)], axis=1)
    assert simplify(line, 0.1).tolist() == [[0, 0], [0, 8]]
    assert simplify(line, 0) is line
    line[4, 0] = 2
    assert simplify(line, 1.5).tolist() == [[0, 0], [2, 4], [0, 8]]
    assert simplify(line, 2.0).tolist() == [[0, 0], [0, 8]]  # not farther than the tolerance
    assert simplify(line[:1], 1.0).tolist() == [[0, 0]]


@pytest.mark.parametrize("tolerance", [0, 1, 2])
def test_coco_reads_them(tolerance: int) -> None:
    rows, columns = np.indices((100, 120))
    mask = (rows - 45.3) ** 2 / 30**2 + (columns - 61.8) ** 2 / 40**2 < 1
    polygons = json.loads(json.dumps(mask_to_polygons(mask, tolerance)))
    found = decode_mask(segmentation_to_rle(polygons, *mask.shape))
    # COCO's rasteriser draws the outline half a pixel to the upper left
    assert mask_iou(found, mask) > (0.96, 0.95, 0.93)[tolerance]
