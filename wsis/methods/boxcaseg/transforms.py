"""Pixels of boxes and salient images as the network sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from wsis.structures.boxes import box_to_slices

BOX_MEAN = np.array([102.9801, 115.9465, 122.7717], dtype=np.float32) / 255
"""Subtracted from R, G, B of box crops by the legacy normalisation (BGR means, as published)."""
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
"""ImageNet's mean of R, G, B."""
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)
"""ImageNet's standard deviation of R, G, B."""
DARK = 1e-6
"""The brightest value up to which an image counts as black, and is not stretched."""


def resize_square(image: np.ndarray, size: int, *, mirror: bool = True) -> np.ndarray:
    """An image as a square, its aspect ignored, as scikit-image resizes with order 1.

    Along each side: where it shrinks by a factor f, a Gaussian of standard deviation (f - 1) / 2, cut off at four of
    them; then linear interpolation with half-pixel centres.

    Args:
        image: (H, W, C) uint8, no side 0.
        size: S.
        mirror: beyond its border the image is mirrored, the border pixels not repeated (scikit-image's "reflect");
            else it is 0 there ("constant"), though no value falls below the image's lowest.

    Returns:
        (S, S, C) float32 in 0..255.
    """
    height, width, _ = image.shape
    across, down = _smoothing(width, size), _smoothing(height, size)
    smooth = len(across) > 1 or len(down) > 1
    if smooth:
        border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_CONSTANT
        filtered = cv2.sepFilter2D(image, cv2.CV_32F, across, down, borderType=border)
        pixels = np.asarray(filtered, dtype=np.float32).reshape(image.shape)
    else:
        pixels = image.astype(np.float32)
    if mirror and min(height, width) < size:  # side after side, each mended
        rows = _interpolate(pixels, size, width)
        _mirror(pixels, rows)
        out = _interpolate(rows, size, size)
        _mirror(rows.swapaxes(0, 1), out.swapaxes(0, 1))
        return out
    out = _interpolate(pixels, size, size)
    if mirror:
        return out
    lines = [*_border(out, height), *_border(out.swapaxes(0, 1), width)]
    for line, share in lines:
        line *= 1 - share
    for faded in [out] if smooth else [line for line, _ in lines]:
        np.maximum(faded, np.float32(image.min()), out=faded)
    return out


def _interpolate(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, C) float32 to (height, width, C), linearly; border pixels are repeated."""
    made = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(made, dtype=np.float32).reshape(height, width, pixels.shape[2])


def _border(made: np.ndarray, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first and the last lines of an enlarged side, for which pixels beyond the border count.

    Args:
        made: (S, w, C).
        length: of the side before.

    Yields:
        Lines (n, w, C), outermost first, to be written to, and how far beyond (n, 1, 1) each lies.
    """
    beyond = _beyond(length, len(made))
    number = np.count_nonzero(beyond) // 2
    share = beyond[:number, None, None]
    yield made[:number], share
    yield made[::-1][:number], share


def _mirror(given: np.ndarray, made: np.ndarray) -> None:
    """Mends the first and last lines of an enlarged side, for which OpenCV repeats the border line.

    Args:
        given: (n, w, C) before.
        made: (S, w, C) after.
    """
    outer = min(1, len(given) - 1)
    ends = (given[0], given[outer]), (given[-1], given[-1 - outer])
    for (lines, share), (border, inner) in zip(_border(made, len(given)), ends, strict=True):
        lines[:] = border + share * (inner - border)


def _smoothing(length: int, size: int) -> np.ndarray:
    """The Gaussian before a side of so many pixels becomes ``size``; one 1 for none."""
    sigma = max(length / size - 1, 0) / 2
    radius = int(4 * sigma + 0.5)
    if not radius:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return kernel / kernel.sum()


def _beyond(length: int, size: int) -> np.ndarray:
    """How far each sample of a side of so many pixels lies outside of its first and last pixel's centres.

    Returns:
        (size,) float32 in pixels, 0 for most; the same from either end.
    """
    before = (0.5 - (np.arange(size) + 0.5) * (length / size)).clip(min=0)
    return np.asarray(before + before[::-1], dtype=np.float32)


def nearest(length: int, size: int) -> np.ndarray:
    """Which pixels of a side remain when it becomes ``size`` without interpolation.

    Args:
        length: of the side, at least 1.
        size: S.

    Returns:
        (S,) int64, floor((i + 0.5) length / S), rounded step by step as scikit-image does, which decides where two
        pixels are equally near.
    """
    places = (np.arange(size) + 0.5) * (length / size) - 0.5
    return np.floor(places + 0.5).astype(np.int64)


def box_pixels(
    crop: np.ndarray, size: int, normalisation: str, out: np.ndarray | None = None
) -> np.ndarray:
    """A box crop as the network sees it, in training and when masks are made.

    Args:
        crop: (h, w, 3) uint8 RGB, no side 0.
        size: S.
        normalisation: "legacy": resized with 0 beyond the border, v / 255 - BOX_MEAN; "unified": resized with mirrored
            borders, (v / 255 - MEAN) / STD.
        out: (3, S, S) float32, where to write.

    Returns:
        (3, S, S) float32.
    """
    legacy = normalisation == "legacy"
    pixels = resize_square(crop, size, mirror=not legacy)
    if out is None:
        out = np.empty((3, size, size), dtype=np.float32)
    if legacy:
        return _normalise(pixels, np.full(3, 255.0), BOX_MEAN, out)
    return _normalise(pixels, 255 * STD, MEAN / STD, out)


def prepare_crops(image: np.ndarray, boxes: ArrayLike, size: int, normalisation: str) -> Tensor:
    """The pixels of each box as the network sees them, without any margin.

    Args:
        image: (H, W, 3) uint8 RGB, original size.
        boxes: (N, 4) XYXY in original pixels; every pixel that a box touches belongs to it, one at least. Integer
            boxes are so exactly image[y0:y1, x0:x1].
        size: S.
        normalisation: see :func:`box_pixels`.

    Returns:
        (N, 3, S, S) float32.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    out = np.empty((len(corners), 3, size, size), dtype=np.float32)
    for box, target in zip(corners, out, strict=True):
        box_pixels(image[box_to_slices(box, *image.shape[:2])], size, normalisation, target)
    return torch.from_numpy(out)


def box_label(touched: tuple[slice, slice], window: tuple[slice, slice], size: int) -> np.ndarray:
    """Which pixels of a resized box crop are inside of the box, see :func:`resize_mask`.

    Args:
        touched: rows and columns of the image that the box touches.
        window: rows and columns of the crop.
        size: S.

    Returns:
        (S, S) bool.
    """
    inside = []
    for box, crop in zip(touched, window, strict=True):
        kept = crop.start + nearest(crop.stop - crop.start, size)
        inside.append((kept >= box.start) & (kept < box.stop))
    return np.logical_and.outer(*inside)


class SalientWindow(NamedTuple):
    """What is drawn for a salient image.

    Attributes:
        flip_rows: turn it upside down.
        top, left: first row and column of the window that is cut out of the resized, turned image.
    """

    flip_rows: bool
    top: int
    left: int


def salient_sample(
    image: np.ndarray,
    mask: np.ndarray,
    window: SalientWindow,
    resized: int,
    size: int,
    normalisation: str,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A window of a salient image and its mask.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W, 1) grey.
        mask: (H, W) bool or integers.
        window: what is cut out.
        resized: side to which both are resized.
        size: S, of the window.
        normalisation: "legacy": (v / max v - MEAN) / STD, max over all pixels and channels of the window, and with the
            numbers of R for all three channels of a grey image; "unified": (v / 255 - MEAN) / STD.
        out: (3, S, S) float32, where to write.

    Returns:
        Image (3, S, S) float32 and label (1, S, S) of the mask's type.
    """
    step = -1 if window.flip_rows else 1
    rows, columns = (slice(start, start + size) for start in (window.top, window.left))
    pixels = resize_square(image, resized)[::step][rows, columns]
    kept = nearest(mask.shape[0], resized)[::step][rows], nearest(mask.shape[1], resized)[columns]
    label = mask[:, kept[1]][kept[0]]
    mean, std, brightest = MEAN, STD, 255.0
    if normalisation == "legacy":
        brightest = float(pixels.max())
        brightest = brightest if brightest > DARK else 1.0
        if image.shape[2] == 1:
            mean, std = MEAN[[0, 0, 0]], STD[[0, 0, 0]]
    if out is None:
        out = np.empty((3, size, size), dtype=np.float32)
    return _normalise(pixels, brightest * std, mean / std, out), label[None]


def _normalise(
    pixels: np.ndarray, divisor: np.ndarray, offset: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """(S, S, 3) or (S, S, 1), v / divisor - offset by channel, into ``out`` (3, S, S)."""
    planes = np.broadcast_to(pixels.transpose(2, 0, 1), out.shape)
    for target, plane, scale, shift in zip(out, planes, 1 / divisor, offset, strict=True):
        np.multiply(plane, np.float32(scale), out=target)
        target -= np.float32(shift)
    return out


def is_grey(image: np.ndarray) -> bool:
    """Whether the three channels of an (H, W, 3) image are the same; most pictures show in a few pixels that not."""
    return all(
        np.array_equal(part[..., 0], part[..., channel])
        for part in (image[::16, ::16], image)
        for channel in (1, 2)
    )
