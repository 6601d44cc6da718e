"""Reading images as they really come: EXIF-rotated, grey, palette, RGBA, 16-bit."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from wsis.errors import DataError

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # see _opened

_ORIENTATION = 0x0112
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    struct.error,
    RuntimeError,  # Pillow's AVIF
    UnidentifiedImageError,
    Image.DecompressionBombError,
    cv2.error,
)
_ONE_OPENS_LARGE = threading.Lock()
_ONE_DECODES_LARGE = threading.Lock()
_LARGE = 50_000_000
"""Pixels from which on images are not decoded side by side to be checked."""
_END_BYTES = 4096
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
"""What the last bytes of a whole file hold, by Pillow's name of the format."""


class UnreadableImageError(DataError):
    """The image file is missing or cannot be decoded; the rest of the dataset may still be fine."""


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself.

    Args:
        height, width: of what :func:`read_image` returns, in pixels.
        mode: Pillow's name of the pixel format, such as RGB, L, P, I;16.
        deep: whether a channel has more than 8 bits.
        rotated: whether its EXIF orientation is applied, and is not the identity.
    """

    height: int
    width: int
    mode: str
    deep: bool
    rotated: bool


def read_header(
    file_name: str | os.PathLike[str], height: int | None = None, width: int | None = None
) -> ImageHeader:
    """The header of an image file; its pixels are not decoded.

    Args:
        file_name: path of the image.
        height, width: as in :func:`read_image`.

    Raises:
        UnreadableImageError: missing, or not an image.
        DataError: neither the stored nor the rotated size is the given one.
    """
    with _decoding(file_name), _opened(file_name) as image:
        return _header(image, file_name, height, width)


def check_pixels(
    file_name: str | os.PathLike[str], height: int, width: int, *, all_files: bool = True
) -> ImageHeader:
    """The header of an image whose pixels can be decoded.

    Args:
        file_name: path of the image.
        height, width: as in :func:`read_image`.
        all_files: False decodes a file only where its end does not show that it is whole.

    Raises:
        UnreadableImageError, DataError: as :func:`read_image` would.
    """
    with _decoding(file_name), _opened(file_name) as image:
        header = _header(image, file_name, height, width)
        if all_files or not _has_end(image, file_name):
            large = header.height * header.width > _LARGE
            with _ONE_DECODES_LARGE if large else contextlib.nullcontext():
                if header.deep:
                    read_image(file_name, height, width)
                else:
                    image.load()
        return header


def read_image(
    file_name: str | os.PathLike[str],
    height: int | None = None,
    width: int | None = None,
    high_bit_depth: str = "minmax",
) -> np.ndarray:
    """Decodes an image file to 8-bit RGB.

    Args:
        file_name: path of the image.
        height, width: the size that the annotations refer to. The EXIF orientation is applied if the rotated image has
            this size, and is not if the stored one has; without a size it is applied.
        high_bit_depth: "minmax" stretches an image of more than 8 bits to 0..255, "shift" keeps its upper 8 bits.

    Returns:
        (H, W, 3) uint8, RGB, contiguous. Alpha is dropped.

    Raises:
        UnreadableImageError: missing or cannot be decoded.
        DataError: neither the stored nor the rotated size is the given one.
    """
    with _decoding(file_name), _opened(file_name, height is not None) as image:
        deep = _is_deep(image)  # before anything that could load the pixels
        orientation, _ = _orientation(image, file_name, height, width)
        if _is_turned_tiff(image):
            upright = _without_orientation(file_name)
            if deep:
                pixels = cv2.imdecode(np.frombuffer(upright, np.uint8), cv2.IMREAD_UNCHANGED)
                array = _deep_to_rgb(pixels, file_name, high_bit_depth)
            else:
                with _opened(io.BytesIO(upright)) as again:
                    array = np.asarray(_to_rgb(again))
        elif deep:
            flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
            array = _deep_to_rgb(cv2.imread(os.fspath(file_name), flags), file_name, high_bit_depth)
        else:
            array = np.asarray(_to_rgb(image))
    if orientation != 1:
        stored = Image.fromarray(array)
        stored.getexif()[_ORIENTATION] = orientation
        array = np.asarray(ImageOps.exif_transpose(stored))
    return np.ascontiguousarray(array)


@contextlib.contextmanager
def _decoding(file_name: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever decoders raise on a file becomes one line that names it."""
    try:
        yield
    except _DECODE_ERRORS as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        if isinstance(error, UnidentifiedImageError):
            reason = "unknown format"
        raise UnreadableImageError(f"{file_name}: cannot be read as an image ({reason})") from error


@contextlib.contextmanager
def _opened(
    file_name: str | os.PathLike[str] | io.BytesIO, of_any_size: bool = True
) -> Iterator[Image.Image]:
    """An image file; beyond Pillow's limit, which guards against files that are made to fill the memory, only where the
    size is no surprise.
    """
    try:
        image = Image.open(file_name)
    except Image.DecompressionBombError as error:
        if not of_any_size:
            raise UnreadableImageError(
                f"{file_name}: the image is too large ({error.args[0].partition(',')[0]}) to be read without an "
                "annotation file that has its size; cut it into tiles (docs/large_images.md)"
            ) from error
        with _ONE_OPENS_LARGE:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(file_name)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _header(
    image: Image.Image, file_name: str | os.PathLike[str], height: int | None, width: int | None
) -> ImageHeader:
    orientation, stored = _orientation(image, file_name, height, width)
    size = stored[::-1] if orientation >= 5 else stored
    return ImageHeader(*size, image.mode, _is_deep(image), orientation != 1)


def _has_end(image: Image.Image, file_name: str | os.PathLike[str]) -> bool:
    """Whether the last bytes of a file show that it has not been cut short."""
    mark = _ENDS.get(image.format or "")
    with open(file_name, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _END_BYTES))
        return mark is not None and mark in stream.read()


def _stated_orientation(image: Image.Image) -> int:
    """What EXIF says, 1 where it says nothing that there is."""
    # Pillow decodes a whole PNG to look for EXIF behind the pixels; what stands before them is in info.
    has_exif = image.format != "PNG" or "exif" in image.info
    orientation = image.getexif().get(_ORIENTATION, 1) if has_exif else 1
    return int(orientation) if orientation in range(2, 9) else 1


def _is_turned_tiff(image: Image.Image) -> bool:
    """Whether Pillow and OpenCV would apply the orientation by themselves, as a tag of TIFF's, not always rightly."""
    return image.format == "TIFF" and _stated_orientation(image) != 1


def _without_orientation(file_name: str | os.PathLike[str]) -> bytes:
    """The content of a TIFF file whose first directory says that the image is upright."""
    content = bytearray(Path(file_name).read_bytes())
    order = "<" if content[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", content, 2)[0] == 43  # BigTIFF: 8 bytes for every place
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, 8 if big else 4)
    (number,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", content, start)
    length, start = (20, start + 8) if big else (12, start + 2)
    for place in range(start, start + length * number, length):
        tag, kind = struct.unpack_from(f"{order}HH", content, place)
        if tag == _ORIENTATION:
            form = {1: "B", 4: "I"}.get(kind, "H")
            struct.pack_into(f"{order}{form}", content, place + (12 if big else 8), 1)
    return bytes(content)


def _orientation(
    image: Image.Image, file_name: str | os.PathLike[str], height: int | None, width: int | None
) -> tuple[int, tuple[int, int]]:
    """The EXIF orientation to apply, 1 for none, and the height and width that are stored."""
    orientation = _stated_orientation(image)
    stored = (image.height, image.width)
    if orientation >= 5 and _is_turned_tiff(image):
        stored = stored[::-1]
    rotated = stored[::-1] if orientation >= 5 else stored
    if height is None or width is None or rotated == (height, width):
        return orientation, stored
    if stored == (height, width):
        return 1, stored
    cure = "use the images that were annotated, or scale boxes and masks with them"
    if stored[::-1] == (height, width):
        cure = f"exchange width and height if they were mixed up; else {cure}"
    raise DataError(
        f"{file_name}: the image is {stored[1]}x{stored[0]} (width x height), the annotations say {width}x{height}; "
        f"{cure}"
    )


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits (Pillow reports 16-bit colour as RGB, but not in the tile's raw mode)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    return any(
        isinstance(tile[3], str | tuple) and ";16" in str(tile[3])
        for tile in getattr(image, "tile", ())
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "La", "PA"):
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy


def _deep_to_rgb(
    array: np.ndarray | None, file_name: str | os.PathLike[str], high_bit_depth: str
) -> np.ndarray:
    """(H, W, 3) uint8 RGB of what OpenCV has read."""
    if array is None:
        raise UnreadableImageError(f"{file_name}: cannot be read as an image (unknown format)")
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    else:
        array = array[:, :, 2::-1]
    if array.dtype == np.uint8:
        return array
    if high_bit_depth == "shift" and array.dtype == np.uint16:
        return np.right_shift(array.astype(np.uint16), 8).astype(np.uint8)
    values = array.astype(np.float64)
    low, high = values.min(), values.max()
    if not np.isfinite(high - low):
        raise UnreadableImageError(
            f"{file_name}: cannot be read as an image (values are not finite)"
        )
    return np.rint((values - low) * (255.0 / (high - low or 1.0))).astype(np.uint8)
