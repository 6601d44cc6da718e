"""Binary masks as compressed COCO run-length codes (column-major runs, starting with a run of zeros).

An :data:`RLE` here is ready for JSON: ``{"size": [height, width], "counts": str}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import ArrayLike

from wsis.errors import DataError
from wsis.structures.boxes import box_to_slices

RLE = dict[str, Any]

MASK_CURE = "write polygons [[x1, y1, x2, y2, ...], ...] or a run-length code of the image's [height, width]"


def _as_text(rle: dict[str, Any]) -> RLE:
    counts = rle["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    return {"size": [int(v) for v in rle["size"]], "counts": counts}


def encode_mask(mask: np.ndarray) -> RLE:
    """One mask (H, W), bool or integer, non-zero = inside."""
    return _as_text(coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8)))


def encode_masks(masks: np.ndarray) -> list[RLE]:
    """Masks (N, H, W), bool or integer, to N codes."""
    return [encode_mask(mask) for mask in masks]


def encode_crop(crop: np.ndarray, x0: int, y0: int, height: int, width: int) -> RLE:
    """A mask known on a window only, without ever making the full image.

    Args:
        crop: (h, w) bool or integer, non-zero = inside; the rest of the image is outside.
        x0, y0: column and row of the crop's first pixel; the crop lies wholly inside the image.
        height, width: size of the full image.

    Returns:
        The code of the full (height, width) mask.

    Raises:
        ValueError: the crop sticks out of the image.
    """
    h, w = crop.shape
    if x0 < 0 or y0 < 0 or x0 + w > width or y0 + h > height:
        raise ValueError(f"crop {w}x{h} at ({x0}, {y0}) sticks out of a {width}x{height} image")
    band = np.zeros((w, height), dtype=np.int8)  # columns of the image that the crop touches
    band[:, y0 : y0 + h] = (crop != 0).T
    changes = np.flatnonzero(np.diff(band.ravel(), prepend=0, append=0)) + x0 * height
    counts = np.diff(changes, prepend=0, append=height * width).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()  # the mask reaches the last pixel; a code never ends with an empty run
    code = {"size": [height, width], "counts": counts}
    return _as_text(coco_mask.frPyObjects(code, height, width))


def encode_box(box: ArrayLike, height: int, width: int) -> RLE:
    """The filled box: every pixel that the box (XYXY) touches, see :func:`box_to_slices`."""
    rows, columns = box_to_slices(box, height, width)
    filled = np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
    return encode_crop(filled, columns.start, rows.start, height, width)


def decode_mask(rle: RLE) -> np.ndarray:
    """The dense (H, W) bool mask of a code."""
    return coco_mask.decode(rle).astype(bool)


def decode_crop(rle: RLE, rows: slice, columns: slice) -> np.ndarray:
    """A window of a mask, without ever making the full image.

    Args:
        rle: with text counts.
        rows, columns: of the window, inside the image.

    Returns:
        (h, w) bool.
    """
    height = rle["size"][0]
    first, end = columns.start * height, columns.stop * height  # codes go column by column
    lengths = np.diff(_counts_of([rle["counts"]])[0].cumsum().clip(first, end), prepend=first)
    band = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return band.reshape(-1, height)[:, rows].T


def rle_area(rle: RLE) -> int:
    """Number of pixels inside."""
    return int(coco_mask.area(rle))


def segmentation_to_rle(segmentation: Any, height: int, width: int) -> RLE:
    """Any form of COCO ``segmentation`` to a compressed code.

    Args:
        segmentation: list of polygons ``[x, y, ...]``, or a code with list (uncompressed) or text
            counts.
        height, width: size of the image.

    Raises:
        ValueError: neither form, a polygon with fewer than three points, or a code that is not of
            the image's size (pycocotools would read or write beyond its memory).
    """
    if not isinstance(segmentation, dict):
        check_polygons(segmentation)
        return _as_text(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"size {_brief(segmentation.get('size'))}, expected {[height, width]}")
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        if any(not isinstance(c, int) or isinstance(c, bool) or c < 0 for c in counts):
            raise ValueError("counts must be non-negative integers")
        total = sum(counts)
    elif isinstance(counts, str | bytes):
        total = int(_counts_of([counts])[0].sum())
    else:
        raise ValueError("counts must be a list or text")
    if total != height * width:
        raise ValueError(f"counts add up to {_brief(total)}, expected {height * width}")
    if isinstance(counts, list):
        return _as_text(coco_mask.frPyObjects(segmentation, height, width))
    return _as_text(segmentation)


def tight_box(segmentation: Any, height: int, width: int) -> np.ndarray | None:
    """(4,) XYXY around a mask in any form, of polygons around their points; None where it is malformed or has no pixel.

    Args:
        segmentation: polygons or a code.
        height, width: of its image.
    """
    try:
        if isinstance(segmentation, list):
            points = np.concatenate([np.reshape(part, (-1, 2)) for part in segmentation])
            return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float64)
        code = segmentation_to_rle(segmentation, height, width)
    except (ValueError, TypeError):
        return None
    x, y, w, h = coco_mask.toBbox(code)
    return np.array([x, y, x + w, y + h]) if rle_area(code) else None


def read_mask(entry: Mapping[str, Any], key: str, size: tuple[int, int], label: str) -> RLE:
    """The mask that an entry of a COCO file has under a key.

    Args:
        entry: an annotation or image that has the key.
        key: such as ``segmentation``, in any form that :func:`segmentation_to_rle` knows.
        size: height and width of the image.
        label: file and entry, for the message.

    Raises:
        DataError: it is malformed.
    """
    try:
        return segmentation_to_rle(entry[key], *size)
    except (ValueError, TypeError) as error:
        raise DataError(f"{label}: key '{key}': {error}; {MASK_CURE}") from error


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_polygons(segmentation: Any) -> None:
    """Checks the form of a list of polygons.

    Raises:
        ValueError: not a list, an empty one, or a polygon that is not three or more pairs of finite
            numbers.
    """
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("expected a list of polygons or a run-length code")
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon needs at least three x, y pairs")
        if not all(isinstance(v, int | float) and abs(v) < 1e7 for v in polygon):  # NaN too
            raise ValueError("a polygon's coordinates must be finite numbers")


def runs_of(
    segmentations: Sequence[Any], height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of many masks of one image, no pixel of which is made.

    Args:
        segmentations: in any form that :func:`segmentation_to_rle` knows; None = empty.
        height, width: size of the image.

    Returns:
        Which mask a run belongs to, its first and its last pixel, counted column by column; (R,) int64 each.

    Raises:
        ValueError: see :func:`segmentation_to_rle`.
    """
    given = [(i, s) for i, s in enumerate(segmentations) if s is not None]
    counts, numbers = _counts_of([_text_of(s, height, width) for _, s in given])
    ends, which = counts.cumsum(), np.repeat(np.arange(len(given)), numbers)
    totals = np.diff(ends[numbers.cumsum() - 1], prepend=0)
    for total in totals[totals != height * width][:1]:
        raise ValueError(f"counts add up to {total}, expected {height * width}")
    ends -= which * (height * width)
    inside = (_places(numbers) % 2 == 1) & (counts > 0)
    owner = np.array([i for i, _ in given], dtype=np.int64)[which[inside]]
    return owner, (ends - counts)[inside], ends[inside] - 1


def _text_of(segmentation: Any, height: int, width: int) -> str | bytes:
    """Compressed counts, which are not looked at where they were given."""
    if isinstance(segmentation, dict) and segmentation.get("size") == [height, width]:
        counts = segmentation.get("counts")
        if isinstance(counts, str | bytes):
            return counts
    return str(segmentation_to_rle(segmentation, height, width)["counts"])


def _places(numbers: np.ndarray) -> np.ndarray:
    """0, 1, ... for each of some groups in turn, of which ``numbers`` (G,) are the lengths."""
    return np.arange(numbers.sum()) - np.repeat(numbers.cumsum() - numbers, numbers)


def _counts_of(texts: Sequence[str | bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The counts that compressed codes stand for.

    Each count is a little-endian number of 5-bit digits, one per character from "0" on, with a
    continuation bit and a sign; from the fourth on it is the difference to the count two before.

    Returns:
        The counts of all codes in turn, and how many each code has; int64.

    Raises:
        ValueError: a character that is none, a number that does not end, or a negative count.
    """
    no_code = ValueError("counts are not a run-length code")
    if not all(text.isascii() for text in texts):  # several bytes each for pycocotools
        raise no_code
    raw = [text.encode("ascii") if isinstance(text, str) else text for text in texts]
    digits = np.frombuffer(b"".join(raw), dtype=np.uint8).astype(np.int64) - 48
    sizes = np.array([len(text) for text in raw], dtype=np.int64)
    if not len(raw):
        return digits, sizes
    last = sizes.cumsum() - 1
    if sizes.min() == 0 or digits.min() < 0 or digits.max() > 63 or (digits[last] & 32).any():
        raise no_code
    ends = np.flatnonzero((digits & 32) == 0)
    length = np.diff(ends, prepend=-1)
    if length.max() > 7:
        raise no_code
    values = np.add.reduceat((digits & 31) << (5 * _places(length)), ends - length + 1)
    values -= np.where(digits[ends] & 16, 1 << (5 * length), 0)
    numbers = np.diff(np.searchsorted(ends, last), prepend=-1)
    place, first = _places(numbers), numbers.cumsum() - numbers
    for parity in (1, 0):  # running sums of every other count, the first count aside
        member = (place % 2 == parity) & (place > 0)
        sums = np.where(member, values, 0).cumsum()
        values = np.where(member, sums - np.repeat(sums[first], numbers), values)
    if values.min() < 0:
        raise no_code
    return values, numbers
