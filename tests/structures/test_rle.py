"""Run-length codes: round trips, and the crop encoder against the dense one."""

import json

import numpy as np
import pytest

from tests.masks import rectangle
from wsis.structures.rle import (
    decode_crop,
    decode_mask,
    encode_box,
    encode_crop,
    encode_mask,
    encode_masks,
    rle_area,
    segmentation_to_rle,
)


def test_round_trip_through_json():
    masks = np.random.default_rng(0).random((5, 13, 17)) > 0.5
    codes = json.loads(json.dumps(encode_masks(masks)))
    assert np.array_equal(np.stack([decode_mask(code) for code in codes]), masks)
    assert [rle_area(code) for code in codes] == masks.sum(axis=(1, 2)).tolist()


@pytest.mark.parametrize("fill", [0.0, 0.4, 1.0])
def test_crop_encoder_equals_the_dense_one_everywhere(fill):
    rng = np.random.default_rng(1)
    height, width = 9, 7
    for y0 in range(height):
        for x0 in range(width):
            h, w = rng.integers(1, height - y0 + 1), rng.integers(1, width - x0 + 1)
            crop = rng.random((h, w)) < fill
            dense = np.zeros((height, width), dtype=bool)
            dense[y0 : y0 + h, x0 : x0 + w] = crop
            assert encode_crop(crop, x0, y0, height, width) == encode_mask(dense)


def test_filled_box_touches_its_pixels_and_no_crop_sticks_out():
    with pytest.raises(ValueError, match="sticks out"):
        encode_crop(np.ones((2, 2)), 9, 0, 10, 10)
    assert rle_area(encode_box((1, 1, 3, 4), 10, 10)) == 6
    assert rle_area(encode_box((0, 0, 10, 10), 10, 10)) == 100
    assert rle_area(encode_box((20, 20, 30, 30), 10, 10)) == 1


def test_every_form_of_segmentation_gives_the_same_code():
    mask = rectangle((6, 8), 2, 1, 7, 4)
    code = encode_mask(mask)
    polygon = [[2, 1, 7, 1, 7, 4, 2, 4]]
    runs = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=0)), prepend=0)
    counts = [*runs.tolist(), mask.size - int(runs.sum())]
    assert segmentation_to_rle(polygon, 6, 8) == code
    assert segmentation_to_rle({"size": [6, 8], "counts": counts}, 6, 8) == code
    assert segmentation_to_rle(code, 6, 8) == code
    assert segmentation_to_rle({**code, "counts": code["counts"].encode()}, 6, 8) == code


@pytest.mark.parametrize(
    "bad",
    [
        *([], "text", None, {"size": [5, 8], "counts": [40]}, {"size": [6, 8]}),
        *([[1, 2, 3, 4, *more]] for more in ([], [5, 6, 7], [5, float("nan")], [5, "6"])),
        *({"size": [6, 8], "counts": counts} for counts in ([40], [-1, 49], "", "0", "\xff")),
        {"size": [6, 8], "counts": "\u20ac\u20ac\u20ac3"},  # not 15, 15, 15, 3
        *({"size": [6, 8], "counts": counts} for counts in ("oo", "o" * 60 + "0", "O")),
    ],
)
def test_malformed_segmentation_is_a_value_error(bad):
    with pytest.raises(ValueError, match=r"\w"):
        segmentation_to_rle(bad, 6, 8)


def test_the_size_of_any_code_is_known_without_decoding_it():
    rng = np.random.default_rng(2)
    for density in (0, 0.01, 0.5, 0.99, 1):
        mask = rng.random((97, 203)) < density
        assert segmentation_to_rle(encode_mask(mask), 97, 203) == encode_mask(mask)
    big = encode_box((100, 200, 3000, 2500), 4000, 5000)
    assert segmentation_to_rle(big, 4000, 5000) == big


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("window", [np.s_[0:7, 0:9], np.s_[2:5, 3:4], np.s_[6:7, 8:9]])
def test_a_window_is_that_of_the_whole_mask(share, window):
    mask = np.random.default_rng(3).random((7, 9)) < share
    assert np.array_equal(decode_crop(encode_mask(mask), *window), mask[window])
