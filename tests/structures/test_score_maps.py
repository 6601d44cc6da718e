from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from wsis.errors import DataError
from wsis.structures import ScoreMaps
from wsis.structures.score_maps import (
    STRETCHED,
    ScoreMapHeader,
    provenance_digest,
    read_header,
    read_score_maps,
    write_score_maps,
)

SIZE = (37, 50)
GRIDS = {1: SIZE, 4: (10, 13), STRETCHED: (7, 7)}
HEADER = ScoreMapHeader("sub/a.b.jpg", SIZE, "0123456789abcdef")


def smooth(shape: tuple[int, int], number: int = 3) -> np.ndarray:
    """(number, *shape): bumps like those of activation maps, one of them 0, of very different heights."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    middle = np.array(shape) / 2
    bump = np.exp(
        -((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2) / (2 * (shape[0] / 5) ** 2)
    )
    bump += 0.05 * np.random.default_rng(0).random(shape)
    return np.stack([bump * 10.0**-k for k in range(number - 1)] + [bump * 0])


def make(stride: int = 1) -> ScoreMaps:
    return ScoreMaps([0, 2, 301], smooth(GRIDS[stride]), *SIZE, stride)


def write(path, maps=None, header=HEADER):
    write_score_maps(path, maps or make(), header.image, header.made_with)
    return path


@pytest.mark.parametrize("stride", GRIDS)
def test_maps_come_back_as_exact_as_their_own_maximum_allows(tmp_path, stride):
    maps = make(stride)
    assert maps.bits == (8 if stride == 1 else 16)
    found = read_score_maps(write(tmp_path / "y/sub/a.b.npz", maps), HEADER)
    assert found.classes.tolist() == [0, 2, 301]
    assert (found.height, found.width, found.stride) == (*SIZE, stride)
    assert found.scores.dtype == np.float32 and found.scores.shape == maps.scores.shape
    for ours, given in zip(found.scores, maps.scores, strict=True):
        assert ours.max() == pytest.approx(given.max(), rel=1e-6)
        assert np.abs(ours - given).max() <= given.max() / (2**maps.bits - 1) * 0.50001
    assert read_header(tmp_path / "y/sub/a.b.npz") == HEADER
    assert [path.name for path in (tmp_path / "y/sub").iterdir()] == ["a.b.npz"]


def test_maps_of_nothing_come_back(tmp_path):
    maps = ScoreMaps.of_nothing(*SIZE)
    found = read_score_maps(write(tmp_path / "a.npz", maps), HEADER)
    assert found.enlarged().shape == (0, *SIZE) and not found.classes.size


@pytest.mark.parametrize("stride", GRIDS)
def test_no_class_on_any_grid_is_nothing(stride):
    maps = ScoreMaps([], np.zeros((0, *GRIDS[stride])), *SIZE, stride)
    assert maps.enlarged().shape == (0, *SIZE)


def test_the_same_maps_give_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    first = write(tmp_path / "a.npz").read_bytes()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e8)
    assert write(tmp_path / "b.npz").read_bytes() == first


def test_a_file_is_read_by_numpy_alone(tmp_path):
    with np.load(write(tmp_path / "a.npz", make(4)), allow_pickle=False) as file:
        scores = file["scores"] * file["scale"][:, None, None]
        assert int(file["stride"]) == 4 and file["size"].tolist() == list(SIZE)
        assert str(file["image"]) == "sub/a.b.jpg"
    np.testing.assert_allclose(scores, make(4).scores, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 4])
def test_a_pixel_and_class_take_less_than_a_byte(tmp_path, stride):
    height, width, number = 333, 500, 3
    grid = -(-height // stride), -(-width // stride)
    maps = ScoreMaps([1, 2, 3], smooth(grid), height, width, stride)
    path = write(tmp_path / "a.npz", maps)
    per_pixel = path.stat().st_size / (height * width * number)
    assert per_pixel < {1: 0.8, 4: 0.13}[stride]


@pytest.mark.parametrize("stride", GRIDS)
def test_every_pixel_gets_a_score(stride):
    full = make(stride).enlarged()
    assert full.shape == (3, *SIZE) and full.dtype == torch.float32
    if stride == 1:
        np.testing.assert_array_equal(full, make(1).scores)


def test_a_grid_of_a_stride_is_enlarged_by_it_and_cut():
    row = torch.tensor([0.0, 8.0, 16.0])
    full = ScoreMaps([1], row.expand(1, 1, 3), 3, 10, 4).enlarged()
    expected = [0, 0, 1, 3, 5, 7, 9, 11, 13, 15]
    torch.testing.assert_close(full, torch.tensor(expected).float().expand(1, 3, 10))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"classes": [2, 1]}, "ascending"),
        ({"classes": [1]}, "1 classes"),
        ({"scores": np.zeros((2, 3))}, "expected .K, h, w."),
        ({"scores": np.full((2, 2, 3), np.nan)}, "finite"),
        ({"scores": np.full((2, 2, 3), -1e-9)}, "at least 0"),
        ({"stride": 2}, "a grid .2, 3. of stride 2 for a 9x6 image"),
        ({"stride": -1}, "stride -1"),
        ({"height": 0}, "9x0 image"),
    ],
)
def test_what_is_not_of_the_form_is_refused(change, text):
    given = {"classes": [1, 2], "scores": np.zeros((2, 2, 3)), "height": 6, "width": 9, "stride": 3}
    ScoreMaps(**given)
    with pytest.raises(ValueError, match=text):
        ScoreMaps(**given | change)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (("b.jpg", SIZE, HEADER.made_with), "of the image 'sub/a.b.jpg', expected .* 'b.jpg'"),
        (("./sub/a.b.jpg", (50, 37), HEADER.made_with), "of 50x37 .*, the image is 37x50"),
        ((HEADER.image, SIZE, "0" * 16), "other weights, data set or settings"),
    ],
)
def test_maps_of_something_else_are_told_apart(tmp_path, expected, text):
    path = write(tmp_path / "a.npz")
    with pytest.raises(DataError, match=text) as error:
        read_score_maps(path, ScoreMapHeader(*expected))
    assert str(path) in str(error.value) and "make the score maps anew" in str(error.value)
    read_score_maps(path)


@pytest.mark.parametrize("keep", [0, 1, 30, 0.3, 0.6, 0.99])
def test_a_file_that_is_cut_is_told(tmp_path, keep):
    path = write(tmp_path / "a.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep >= 1 else int(keep * len(whole))])
    for read in (read_score_maps, read_header):
        with pytest.raises(DataError, match=r"a\.npz: cannot be read as score maps") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_changed_byte_never_ends_in_another_error(tmp_path):
    path = write(tmp_path / "a.npz", make(STRETCHED))
    whole, told = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            read_score_maps(path, HEADER)
        except DataError:
            told += 1
    assert told > len(whole) / 6


@pytest.mark.parametrize(
    "foreign",
    [
        lambda path: np.save(path.open("wb"), np.zeros(3)),
        lambda path: np.savez(path, scores=np.zeros(3)),
        lambda path: np.savez(path, **dict(np.load(write(path)), scores=np.zeros((3, 4, 4)))),
        lambda path: np.savez(path, **dict(np.load(write(path)), size=np.array([3, 4, 5]))),
        lambda path: np.savez(path, **dict(np.load(write(path)), image=np.array([1, 2]))),
        lambda path: np.savez(path, **dict(np.load(write(path)), stride=np.array([1, 2]))),
        lambda path: np.savez(path, scores=np.array([{}], dtype=object)),
    ],
)
def test_what_others_wrote_is_told(tmp_path, foreign):
    foreign(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz: cannot be read as score maps"):
        read_score_maps(tmp_path / "a.npz")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"a\.npz: no such file of score maps"):
        read_header(tmp_path / "a.npz")


def test_the_digest_follows_what_maps_were_made_with():
    first = provenance_digest({"a": 1, "b": {"c": 2}})
    assert len(first) == 16 and first == provenance_digest({"b": {"c": 2}, "a": 1})
    assert first != provenance_digest({"a": 1, "b": {"c": 3}})
