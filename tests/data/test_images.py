"""Images as they really come, each to 8-bit RGB of the size that the annotations mean."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.data.builders import coco, save_turned, source_of
from wsis.data.folders import expand_patterns, find_images
from wsis.data.image_checks import check_image_files
from wsis.data.images import ImageHeader, UnreadableImageError, read_header, read_image
from wsis.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = np.asarray(Image.fromarray(RGB).convert("L"))


@pytest.fixture
def path(tmp_path):
    """An image of 9 x 6 pixels."""
    Image.fromarray(RGB).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_plain_rgb_is_exact(path):
    image = read_image(path, 6, 9)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.array_equal(image, RGB)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK"])
def test_other_modes_become_three_channels(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(RGB).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (6, 9, 3)
    if mode == "RGBA":
        assert np.array_equal(image, RGB)
    if mode in ("L", "LA"):
        assert np.array_equal(image[:, :, 0], GREY)


def test_alpha_does_not_darken(path):
    alpha = np.dstack([RGB, np.zeros((6, 9), dtype=np.uint8)])
    Image.fromarray(alpha, "RGBA").save(path)
    assert np.array_equal(read_image(path), RGB)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits(path, channels):
    deep = np.arange(6 * 9 * channels, dtype=np.uint16).reshape(6, 9, channels) * 10 + 1000
    cv2.imwrite(str(path), deep.squeeze())
    deep = deep[:, :, ::-1]  # OpenCV writes BGR
    expected = np.rint((deep.astype(float) - 1000) * 255 / (deep.max() - 1000.0))
    for how, pixels in (("minmax", expected), ("shift", deep >> 8)):
        image = read_image(path, high_bit_depth=how)
        assert np.array_equal(image, np.broadcast_to(pixels, (6, 9, 3)))


def test_constant_and_float_images(path):
    cv2.imwrite(str(path), np.full((4, 4), 777, dtype=np.uint16))
    assert (read_image(path) == 0).all()
    floats = path.with_suffix(".tif")
    Image.fromarray(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)).save(floats)
    assert read_image(floats).max() == 255


def test_exif_follows_the_size_of_the_annotations(tmp_path):
    path = save_turned(tmp_path / "a.jpg", RGB, 6)
    stored = np.asarray(Image.open(path))
    assert np.array_equal(read_image(path, 6, 9), stored)
    assert np.array_equal(read_image(path, 9, 6), np.rot90(stored, -1))
    assert read_image(path).shape == (9, 6, 3)
    with pytest.raises(DataError, match="the image is 9x6 .* the annotations say 7x7"):
        read_image(path, 7, 7)


@pytest.mark.parametrize(
    ("name", "compression"), [("a.png", None), ("a.tif", None), ("a.tif", "tiff_lzw")]
)
@pytest.mark.parametrize("form", ["RGB", "L", "sixteen"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_turned_once(tmp_path, orientation, form, name, compression):
    """Pillow and OpenCV apply a TIFF's orientation by themselves; some forms come out as noise then."""
    pixels = {"RGB": RGB, "L": GREY, "sixteen": GREY.astype(np.uint16) * 257}[form]
    path = save_turned(tmp_path / name, pixels, orientation, compression=compression)
    stored = RGB if form == "RGB" else np.repeat(GREY[:, :, None], 3, axis=2)
    turned = Image.fromarray(stored)
    turned.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(turned))
    size, header = upright.shape[:2], read_header(path)
    for given in ((), size):
        assert np.array_equal(read_image(path, *given, high_bit_depth="shift"), upright)
    if orientation >= 5:
        assert np.array_equal(read_image(path, 6, 9, high_bit_depth="shift"), stored)
    assert (header.height, header.width) == size and header.rotated == (orientation != 1)
    assert read_header(path, 6, 9).rotated == (orientation in (2, 3, 4))


def test_an_orientation_that_there_is_not_is_none(tmp_path):
    path = save_turned(tmp_path / "a.jpg", RGB, 9)
    assert read_image(path).shape == (6, 9, 3)
    header = read_header(path)
    assert (header.height, header.width, header.rotated) == (6, 9, False)


def test_mode_and_depth(path):
    Image.fromarray(RGB).convert("P").save(path)
    assert read_header(path) == ImageHeader(6, 9, "P", False, False)
    cv2.imwrite(str(path), RGB.astype(np.uint16))
    assert read_header(path).deep


@pytest.mark.parametrize("error", [RuntimeError("no\nframe"), cv2.error("-215"), TypeError("x")])
def test_whatever_a_decoder_raises_is_one_line(path, monkeypatch, error):
    def fail(*unused):
        raise error

    monkeypatch.setattr("wsis.data.images._to_rgb", fail)
    with pytest.raises(UnreadableImageError, match=r"a\.png: cannot be read") as raised:
        read_image(path)
    assert "\n" not in str(raised.value)


def test_unreadable_files(path):
    Image.fromarray(RGB.repeat(40, 0).repeat(40, 1)).save(path.with_name("b.jpg"))
    content = path.with_name("b.jpg").read_bytes()
    path.with_name("b.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.png: the image is 9x6 .* say 6x6"):
        read_header(path, 6, 6)
    path.write_text("no image")
    names = ("a.png", read_image), ("a.png", read_header), ("b.jpg", read_image)
    for name, read in (*names, ("absent.png", read_image), ("absent.png", read_header)):
        with pytest.raises(UnreadableImageError, match=f"{name}: cannot be read as an image"):
            read(path.with_name(name))


def test_headers_are_checked_against_the_json(path):
    def source(**size):
        image = {"id": 1, "file_name": "a.png", "height": 6, "width": 9, **size}
        return source_of(path.parent, coco(images=[image]))

    check_image_files(source())
    with pytest.raises(DataError, match=r"a\.json: image 1: .*9x6 .* say 9x7"):
        check_image_files(source(height=7))
    pair = coco(images=[{"id": i, "file_name": f"{i}.png", "height": 6, "width": 9} for i in "ab"])
    pair = source_of(path.parent, pair)
    with pytest.raises(UnreadableImageError, match=r"a\.json: image 'b': .*No such file.*; mend"):
        check_image_files(pair)
    assert list(check_image_files(pair, tolerate_unreadable=True)) == ["b"]
    path.unlink()
    with pytest.raises(
        DataError, match="none of its 2 images can be read.*No such file.*0 images;"
    ):
        check_image_files(pair, tolerate_unreadable=True)


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "x/sub").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
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


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        (expand_patterns, "empty", "no image in this folder"),
        (expand_patterns, "*.gif", "no such file"),
        (find_images, "x", "two images of one name"),
    ],
)
def test_nothing_found_and_two_of_one_name(tree, find, name, message):
    with pytest.raises(DataError, match=message):
        find([str(tree / name)])
