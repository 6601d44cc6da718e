"""Pixels of boxes and salient images as the network sees them (spec 4.2, 4.3, 7.1)."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

BOX_MEAN = np.array([102.9801, 115.9465, 122.7717], dtype=np.float32) / 255
"""Subtracted from R, G, B of box crops by the legacy normalisation (BGR means, as published)."""
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
"""ImageNet's mean of R, G, B."""
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)
"""ImageNet's standard deviation of R, G, B."""
DARK = 1e-6
"""The brightest value up to which an image counts as black, and is not stretched."""


def resize_planes(
    image: np.ndarray, size: int, *, mirror: bool = True, out: np.ndarray | None = None
) -> np.ndarray:
    """An image as a square, its aspect ignored, as scikit-image resizes with order 1; channels first.

    Along each side: where it shrinks by a factor f, a Gaussian of standard deviation (f - 1) / 2, cut off at four of
    them; then linear interpolation with half-pixel centres.

    Args:
        image: (H, W, C) uint8, no side 0.
        size: S.
        mirror: beyond its border the image is mirrored, the border pixels not repeated (scikit-image's "reflect");
            else it is 0 there ("constant"), though no value falls below the image's lowest.
        out: (C, S, S) float32, where to write.

    Returns:
        (C, S, S) float32 in 0..255.
    """
    height, width, channels = image.shape
    if out is None:
        out = np.empty((channels, size, size), dtype=np.float32)
    across, down = _smoothing(width, size), _smoothing(height, size)
    border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_CONSTANT
    fade = np.multiply.outer(1 - _beyond(height, size), 1 - _beyond(width, size))
    for plane, target in zip(cv2.split(image), out, strict=True):
        if len(across) > 1 or len(down) > 1:
            smooth = cv2.sepFilter2D(plane, cv2.CV_32F, across, down, borderType=border)
            pixels = np.asarray(smooth, dtype=np.float32)
        else:
            pixels = np.asarray(plane, dtype=np.float32)
        if mirror:
            rows = np.empty((size, width), dtype=np.float32)
            cv2.resize(pixels, (width, size), rows, interpolation=cv2.INTER_LINEAR)
            _mirror(pixels, rows)
            cv2.resize(rows, (size, size), target, interpolation=cv2.INTER_LINEAR)
            _mirror(rows.T, target.T)
        else:
            cv2.resize(pixels, (size, size), target, interpolation=cv2.INTER_LINEAR)
            target *= fade
    return out if mirror else np.maximum(out, np.float32(image.min()), out=out)


def _mirror(given: np.ndarray, made: np.ndarray) -> None:
    """Mends the first and last lines of an enlarged side, for which OpenCV repeats the border line.

    Args:
        given: (n, w) before.
        made: (S, w) after.
    """
    beyond = _beyond(len(given), len(made))
    number = np.count_nonzero(beyond) // 2
    outer = min(1, len(given) - 1)
    share = beyond[:number, None]
    made[:number] = given[0] + share * (given[outer] - given[0])
    made[::-1][:number] = given[-1] + share * (given[-1 - outer] - given[-1])


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
        (S,) int64, floor((i + 0.5) length / S).
    """
    return (2 * np.arange(size) + 1) * length // (2 * size)


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask as a square, its values kept.

    Args:
        mask: (H, W), no side 0.
        size: S.

    Returns:
        (S, S), of the same type.
    """
    return mask[nearest(mask.shape[0], size)][:, nearest(mask.shape[1], size)]


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
    planes = resize_planes(crop, size, mirror=normalisation != "legacy", out=out)
    if normalisation == "legacy":
        return _normalise(planes, np.full(3, 255.0), BOX_MEAN, planes)
    return _normalise(planes, 255 * STD, MEAN / STD, planes)


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
        mask: (H, W) bool.
        window: what is cut out.
        resized: side to which both are resized.
        size: S, of the window.
        normalisation: "legacy": (v / max v - MEAN) / STD, max over all pixels and channels of the window, and with the
            numbers of R for all three channels of a grey image; "unified": (v / 255 - MEAN) / STD.
        out: (3, S, S) float32, where to write.

    Returns:
        Image (3, S, S) float32 and label (1, S, S) bool.
    """
    step = -1 if window.flip_rows else 1
    rows, columns = (slice(start, start + size) for start in (window.top, window.left))
    planes = resize_planes(image, resized)[:, ::step][:, rows, columns]
    label = resize_mask(mask, resized)[::step][rows, columns]
    mean, std, brightest = MEAN, STD, 255.0
    if normalisation == "legacy":
        brightest = float(planes.max())
        brightest = brightest if brightest > DARK else 1.0
        if len(planes) == 1:
            mean, std = MEAN[[0, 0, 0]], STD[[0, 0, 0]]
    if out is None:
        out = np.empty((3, size, size), dtype=np.float32)
    return _normalise(planes, brightest * std, mean / std, out), label[None]


def _normalise(
    planes: np.ndarray, divisor: np.ndarray, offset: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """(3, S, S) or (1, S, S), v / divisor - offset by channel, into ``out`` (3, S, S), which may be the input."""
    for target, plane, scale, shift in zip(
        out, np.broadcast_to(planes, out.shape), 1 / divisor, offset, strict=True
    ):
        np.multiply(plane, np.float32(scale), out=target)
        target -= np.float32(shift)
    return out


def is_grey(image: np.ndarray) -> bool:
    """Whether the three channels of an (H, W, 3) image are the same."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())
