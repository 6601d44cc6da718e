"""From logits to masks: enlarging as PyTorch does, cut to the box; stray parts and holes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.masks import rectangle
from wsis.methods.sam.masks import MaskRefiner, cut, enlarge, positions, seed_maps, tidied
from wsis.methods.sam.prompts import Answers
from wsis.structures import Seed
from wsis.structures.rle import decode_mask

MAP = np.random.default_rng(0).normal(0, 4, (12, 16)).astype(np.float32)


@pytest.mark.parametrize("size", [(48, 60), (30, 16), (7, 9), (12, 16), (1, 100)])
def test_a_window_is_that_of_the_whole_map_enlarged(size):
    tensor = torch.from_numpy(MAP.astype(np.float16).astype(np.float32))
    whole = functional.interpolate(tensor[None, None], size, mode="bilinear")[0, 0].numpy()
    for window in (np.s_[0 : size[0], 0 : size[1]], np.s_[size[0] // 2 : size[0], 2:5]):
        sides = zip(window, size, MAP.shape, strict=True)
        rows, columns = (positions(each, cells / pixels, cells) for each, pixels, cells in sides)
        values, (y, x) = cut(MAP, (rows, columns))
        found = enlarge(values, rows - y, columns - x)
        assert np.abs(found - whole[window]).max() < 1e-4
        assert values.size <= MAP.size and values.dtype == np.float16


BLOB = rectangle((20, 20), 4, 4, 14, 14)
SPECK, HOLE = rectangle((20, 20), 17, 17, 19, 19), rectangle((20, 20), 6, 6, 8, 8)
NOTCH = rectangle((20, 20), 4, 8, 6, 10)
BESIDE = rectangle((20, 20), 14, 14, 16, 16)
"""4 pixels that touch the blob at a corner."""


@pytest.mark.parametrize(
    ("mask", "share", "expected"),
    [
        (BLOB | SPECK, 0.05, BLOB),
        (BLOB | SPECK, 0.03, BLOB | SPECK),
        (BLOB & ~HOLE, 0.05, BLOB),
        (BLOB & ~HOLE, 0.03, BLOB & ~HOLE),
        (BLOB & ~NOTCH, 0.05, BLOB & ~NOTCH),  # a bay is no hole
        (BLOB | BESIDE, 0.05, BLOB | BESIDE),  # one part by a corner
        ((BLOB & ~HOLE) | SPECK, 0.0, (BLOB & ~HOLE) | SPECK),
        (BLOB & False, 0.5, BLOB & False),
        (BLOB | True, 0.5, BLOB | True),
        (~SPECK, 0.5, ~(SPECK & False)),
        (~rectangle((20, 20), 0, 0, 2, 2), 0.5, ~rectangle((20, 20), 0, 0, 2, 2)),  # at the border
    ],
)
def test_small_parts_and_holes_go(mask, share, expected):
    assert np.array_equal(tidied(mask, share), expected)


def test_a_mask_stays_in_its_box_and_the_score_is_the_models():
    """The image covers the upper three quarters of the map; the map's cells are 4 pixels wide."""
    logits = np.full((3, 16, 16), 5.0, dtype=np.float32)
    logits[1, :, 8:] = -5
    logits[2] = -1
    boxes = np.array([[3.5, 2, 30, 9], [16, 20, 48, 40], [0, 0, 64, 48]], dtype=np.float32)
    chunks = [slice(0, 2), slice(2, 3)]
    scores = np.array([0.5, 1.0, 0.25], dtype=np.float32)
    answers = (Answers(logits[part], scores[part], (12.0, 16.0)) for part in chunks)
    maps = seed_maps(answers, boxes, (48, 64))
    assert [each.shape for each in maps["logits"]] == [(3, 8), (7, 10), (13, 16)]
    masks = MaskRefiner(0.05)(Seed(1, "", 48, 64, boxes, np.zeros(3, int), (1, 2, 3), maps), None)
    assert masks.status == ["ok", "ok", "empty"] and masks.scores == [0.5, 1.0, 0.0]
    expected = rectangle((48, 64), 3, 2, 30, 9), rectangle((48, 64), 16, 20, 32, 40)
    for code, mask in zip(masks.masks, expected, strict=False):
        assert np.array_equal(decode_mask(code), mask)
