"""Images as they really come, each to 8-bit RGB of the size that the annotations mean."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from wsis.data.images import UnreadableImageError, check_image_files, read_header, read_image
from wsis.data.source import load_source
from wsis.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_plain_rgb_is_exact(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", 6, 9)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.array_equal(image, RGB)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK"])
def test_other_modes_become_three_channels(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    picture = Image.fromarray(RGB).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == (6, 9, 3)
    if mode == "RGBA":
        assert np.array_equal(image, RGB)
    if mode in ("L", "LA"):
        assert np.array_equal(image[:, :, 0], np.asarray(Image.fromarray(RGB).convert("L")))


def test_alpha_does_not_darken(tmp_path):
    alpha = np.dstack([RGB, np.zeros((6, 9), dtype=np.uint8)])
    Image.fromarray(alpha, "RGBA").save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), RGB)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits(tmp_path, channels):
    deep = np.arange(6 * 9 * channels, dtype=np.uint16).reshape(6, 9, channels) * 10 + 1000
    cv2.imwrite(str(tmp_path / "a.png"), deep.squeeze())
    stretched = read_image(tmp_path / "a.png", high_bit_depth="minmax")
    shifted = read_image(tmp_path / "a.png", high_bit_depth="shift")
    expected = deep[:, :, ::-1].astype(float)  # OpenCV writes BGR
    expected = np.rint((expected - 1000) * 255 / (expected.max() - 1000))
    assert np.array_equal(stretched, np.broadcast_to(expected, (6, 9, 3)))
    assert np.array_equal(shifted, np.broadcast_to(deep[:, :, ::-1] >> 8, (6, 9, 3)))


def test_constant_and_float_images(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 4), 777, dtype=np.uint16))
    assert (read_image(tmp_path / "a.png") == 0).all()
    Image.fromarray(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)).save(tmp_path / "f.tif")
    assert read_image(tmp_path / "f.tif").max() == 255


def exif_jpeg(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(path, exif=exif, quality=100)


def test_exif_follows_the_size_of_the_annotations(tmp_path):
    exif_jpeg(tmp_path / "a.jpg", 6)
    stored = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert np.array_equal(read_image(tmp_path / "a.jpg", 6, 9), stored)
    assert np.array_equal(read_image(tmp_path / "a.jpg", 9, 6), np.rot90(stored, -1))
    assert read_image(tmp_path / "a.jpg").shape == (9, 6, 3)
    with pytest.raises(DataError, match="the image is 9x6 .* the annotations say 7x7"):
        read_image(tmp_path / "a.jpg", 7, 7)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_as_pillow_has_it(tmp_path, orientation):
    from PIL import ImageOps

    exif_jpeg(tmp_path / "a.jpg", orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")))
    assert np.array_equal(read_image(tmp_path / "a.jpg"), expected)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("form", ["RGB", "L", "sixteen"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_turned_once(tmp_path, orientation, form, compression):
    """Pillow and OpenCV apply a TIFF's orientation by themselves; some forms come out as noise then."""
    grey = np.asarray(Image.fromarray(RGB).convert("L"))
    pixels = {"RGB": RGB, "L": grey, "sixteen": grey.astype(np.uint16) * 257}[form]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path, exif=exif, compression=compression)
    stored = RGB if form == "RGB" else np.repeat(grey[:, :, None], 3, axis=2)
    exif_jpeg(tmp_path / "a.jpg", orientation)
    turned = read_image(tmp_path / "a.jpg").shape[:2]
    image = read_image(path, high_bit_depth="shift")
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
    }
    assert np.array_equal(image, upright[orientation])
    assert image.shape[:2] == turned
    assert np.array_equal(read_image(path, *turned, high_bit_depth="shift"), image)
    if orientation >= 5:
        assert np.array_equal(read_image(path, 6, 9, high_bit_depth="shift"), stored)
    header = read_header(path)
    assert (header.height, header.width) == turned and header.rotated == (orientation != 1)


def test_an_orientation_that_there_is_not_is_none(tmp_path):
    exif_jpeg(tmp_path / "a.jpg", 9)
    assert read_image(tmp_path / "a.jpg").shape == (6, 9, 3)
    header = read_header(tmp_path / "a.jpg")
    assert (header.height, header.width, header.rotated) == (6, 9, False)


@pytest.mark.parametrize("error", [RuntimeError("no\nframe"), cv2.error("-215"), TypeError("x")])
def test_whatever_a_decoder_raises_is_one_line(tmp_path, monkeypatch, error):
    Image.fromarray(RGB).save(tmp_path / "a.png")

    def fail(*unused):
        raise error

    monkeypatch.setattr("wsis.data.images._to_rgb", fail)
    with pytest.raises(UnreadableImageError, match=r"a\.png: cannot be read") as raised:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(raised.value)


def test_unreadable_files(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    Image.fromarray(RGB.repeat(40, 0).repeat(40, 1)).save(tmp_path / "b.jpg")
    content = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[: len(content) // 2])
    for name in ("a.png", "b.jpg", "absent.png"):
        with pytest.raises(UnreadableImageError, match=f"{name}: cannot be read as an image"):
            read_image(tmp_path / name)


def test_headers_are_checked_against_the_json(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")

    def source(**size):
        document = {
            "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 9, **size}],
            "annotations": [],
            "categories": [{"id": 1, "name": "x"}],
        }
        (tmp_path / "a.json").write_text(json.dumps(document))
        return load_source(tmp_path / "a.json", tmp_path)

    check_image_files(source())
    with pytest.raises(DataError, match=r"a\.json: image 1: .*9x6 .* say 9x7"):
        check_image_files(source(height=7))
    (tmp_path / "a.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"a\.json: image 1: .*No such file"):
        check_image_files(source())
    check_image_files(source(), tolerate_unreadable=True)
