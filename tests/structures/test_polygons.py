"""Masks to polygons and back."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tests.masks import rectangle
from wsis.structures.polygons import (
    flat,
    joined,
    mask_to_parts,
    rings_to_rle,
    signed_area,
    unflat,
    window_to_rle,
)
from wsis.structures.rle import decode_mask, encode_mask, rle_area

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MASKS = SIZES.flatmap(lambda size: arrays(bool, size)).filter(np.any)


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_every_mask_comes_back_pixel_by_pixel(mask):
    """Holes and parts included: as one ring per part, and as a single ring."""
    code, size = encode_mask(mask), mask.shape
    parts = mask_to_parts(code)
    whole = [joined([part.outline, *part.holes]) for part in parts]
    assert rings_to_rle(whole, *size) == code
    assert rings_to_rle([joined(whole)], *size) == code
    assert rings_to_rle([unflat(flat(ring)) for ring in whole], *size) == code
    filled = decode_mask(rings_to_rle([part.outline for part in parts], *size))
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(mask, np.ones((3, 3))))
    # one part for each piece that hangs together by edges, the largest first
    labels, number = ndimage.label(mask)
    areas = [rle_area(code) for code in (rings_to_rle([ring], *size) for ring in whole)]
    assert areas == sorted(np.bincount(labels.ravel(), minlength=number + 1)[1:], reverse=True)


def test_corners_lie_on_the_edges_of_the_pixels_and_where_it_turns():
    (part,) = mask_to_parts(encode_mask(rectangle((20, 30), 4, 5, 12, 9)))
    assert sorted(map(tuple, part.outline)) == [(4, 5), (4, 9), (12, 5), (12, 9)]
    assert abs(signed_area(part.outline)) == 8 * 4 and part.holes == []
    assert flat(np.array([[1.0, 2.5], [1 / 3, -0.0]])) == [1, 2.5, 0.333, 0]


def test_a_hole_and_an_island_in_it():
    mask = rectangle((20, 20), 2, 2, 18, 18) & ~rectangle((20, 20), 5, 5, 15, 15)
    mask |= rectangle((20, 20), 8, 8, 11, 11)
    ring, island = mask_to_parts(encode_mask(mask))
    assert [abs(signed_area(r)) for r in (ring.outline, *ring.holes)] == [256, 100]
    assert np.sign(signed_area(ring.outline)) == -np.sign(signed_area(ring.holes[0]))
    assert abs(signed_area(island.outline)) == 9 and not island.holes


def test_thinning_loses_little_and_never_a_part():
    y, x = np.mgrid[:80, :80]
    disc = encode_mask((x - 40) ** 2 + (y - 40) ** 2 < 30**2)
    (exact,), (thin,) = (mask_to_parts(disc, tolerance) for tolerance in (0, 1))
    assert len(thin.outline) < len(exact.outline) / 5
    both = decode_mask(rings_to_rle([thin.outline], 80, 80)), decode_mask(disc)
    assert (both[0] & both[1]).sum() / (both[0] | both[1]).sum() > 0.96
    (speck,) = mask_to_parts(encode_mask(rectangle((9, 9), 4, 4, 5, 5)), 5)
    assert len(speck.outline) == 4


def test_a_window_that_sticks_out():
    window = np.ones((4, 6), dtype=bool)
    for x0, y0, area in ((2, 3, 24), (-2, -1, 12), (8, 9, 2), (40, 2, 0), (-9, 0, 0)):
        assert rle_area(window_to_rle(window, x0, y0, 10, 10)) == area
