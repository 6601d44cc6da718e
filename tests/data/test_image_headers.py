"""What an image file says without being decoded, and which files a name stands for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from wsis.data.images import (
    ImageHeader,
    UnreadableImageError,
    expand_patterns,
    find_images,
    read_header,
    read_image,
)
from wsis.errors import DataError

PIXELS = np.zeros((6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_image(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif)
    header = read_header(tmp_path / "a.jpg")
    assert (header.height, header.width) == read_image(tmp_path / "a.jpg").shape[:2]
    assert header.rotated == (orientation != 1)
    assert read_header(tmp_path / "a.jpg", 6, 9).rotated == (orientation in (2, 3, 4))


def test_mode_and_depth(tmp_path):
    Image.fromarray(PIXELS).convert("P").save(tmp_path / "p.png")
    cv2.imwrite(str(tmp_path / "deep.png"), PIXELS.astype(np.uint16))
    assert read_header(tmp_path / "p.png") == ImageHeader(6, 9, "P", False, False)
    assert read_header(tmp_path / "deep.png").deep


def test_what_is_wrong_is_named(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png: the image is 9x6 .* say 6x6"):
        read_header(tmp_path / "a.png", 6, 6)
    for name in ("b.png", "gone.png"):
        with pytest.raises(UnreadableImageError, match=f"{name}: cannot be read as an image"):
            read_header(tmp_path / name)


@pytest.fixture
def tree(tmp_path) -> Path:
    (tmp_path / "x/sub").mkdir(parents=True)
    for name in ("x/b.png", "x/a.JPG", "x/sub/b.png", "x/notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["x"], ["x/a.JPG", "x/b.png", "x/sub/b.png"]),
        (["x/*.png", "x/b.png"], ["x/b.png"]),
        (["x/**/b.png"], ["x/b.png", "x/sub/b.png"]),
        (["x/sub", "x/notes.txt"], ["x/sub/b.png", "x/notes.txt"]),
    ],
)
def test_folders_and_patterns(tree, patterns, expected):
    found = expand_patterns([str(tree / pattern) for pattern in patterns])
    assert found == [tree / name for name in expected]


def test_nothing_found_and_two_of_one_name(tree):
    (tree / "empty").mkdir()
    for name, message in (("empty", "no image in this folder"), ("*.gif", "no such file")):
        with pytest.raises(DataError, match=message):
            expand_patterns([str(tree / name)])
    with pytest.raises(DataError, match="two images of one name"):
        find_images([str(tree / "x")])
