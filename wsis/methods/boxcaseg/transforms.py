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


def resize_image(image: np.ndarray, size: int, *, mirror: bool = True) -> np.ndarray:
    """An image as a square, its aspect ignored, as scikit-image resizes with order 1.

    Along each side: where it shrinks by a factor f, a Gaussian of standard deviation (f - 1) / 2, cut off at four of
    them; then linear interpolation with half-pixel centres.

    Args:
        image: (H, W, C) uint8 or float32, no side 0.
        size: S.
        mirror: beyond its border the image is mirrored, the border pixels not repeated (scikit-image's "reflect");
            else it is 0 there ("constant"), though no value falls below the image's lowest.

    Returns:
        (S, S, C) float32 in the range of the image.
    """
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    for axis in (0, 1):
        pixels = _resize_axis(pixels, axis, size, mirror)
    return pixels if mirror else np.maximum(pixels, np.float32(image.min()), out=pixels)


def _resize_axis(image: np.ndarray, axis: int, size: int, mirror: bool) -> np.ndarray:
    length, shape = image.shape[axis], list(image.shape)
    shape[axis] = size
    kernel = _smoothing(length, size)
    if len(kernel) > 1:
        one = np.ones(1)
        across, down = (one, kernel) if axis == 0 else (kernel, one)
        border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_CONSTANT
        smoothed = cv2.sepFilter2D(image, -1, across, down, borderType=border)
        image = np.asarray(smoothed, dtype=np.float32).reshape(image.shape)
    out = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR).reshape(shape)
    # the first and last samples of an enlarged side, for which OpenCV repeats the border pixel
    beyond = 0.5 - (np.arange(size) + 0.5) * (length / size)
    beyond = beyond[beyond > 0].astype(np.float32)
    lines, given = np.moveaxis(out, axis, 0), np.moveaxis(image, axis, 0)
    for reached, source in ((lines, given), (lines[::-1], given[::-1])):
        outer = source[min(1, length - 1)] if mirror else np.float32(0)
        step = (outer - source[0])[None]
        reached[: len(beyond)] = source[0] + beyond[:, None, None] * step
    return out


def _smoothing(length: int, size: int) -> np.ndarray:
    """The Gaussian before a side of so many pixels becomes ``size``; one 1 for none."""
    sigma = max(length / size - 1, 0) / 2
    radius = int(4 * sigma + 0.5)
    if not radius:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return kernel / kernel.sum()


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
    return mask[nearest(mask.shape[0], size)[:, None], nearest(mask.shape[1], size)]


def box_pixels(crop: np.ndarray, size: int, normalisation: str) -> np.ndarray:
    """A box crop as the network sees it, in training and when masks are made.

    Args:
        crop: (h, w, 3) uint8 RGB, no side 0.
        size: S.
        normalisation: "legacy": resized with 0 beyond the border, v / 255 - BOX_MEAN; "unified": resized with mirrored
            borders, (v / 255 - MEAN) / STD.

    Returns:
        (3, S, S) float32.
    """
    if normalisation == "legacy":
        return _planes(resize_image(crop, size, mirror=False), np.full(3, 255.0), BOX_MEAN)
    return _planes(resize_image(crop, size), 255 * STD, MEAN / STD)


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

    Returns:
        Image (3, S, S) float32 and label (1, S, S) bool.
    """
    step = -1 if window.flip_rows else 1
    rows, columns = (slice(start, start + size) for start in (window.top, window.left))
    pixels = resize_image(image, resized)[::step][rows, columns]
    label = resize_mask(mask, resized)[::step][rows, columns]
    return _salient_pixels(pixels, normalisation), label[None]


def _salient_pixels(pixels: np.ndarray, normalisation: str) -> np.ndarray:
    """(S, S, C) in 0..255 to (3, S, S), see :func:`salient_sample`."""
    grey = pixels.shape[2] == 1
    if normalisation != "legacy":
        colour = np.repeat(pixels, 3, axis=2) if grey else pixels
        return _planes(colour, 255 * STD, MEAN / STD)
    mean, std = (MEAN[:1], STD[:1]) if grey else (MEAN, STD)
    brightest = float(pixels.max())
    planes = _planes(pixels, (brightest if brightest > DARK else 1.0) * std, mean / std)
    return np.repeat(planes, 3, axis=0) if grey else planes


def _planes(pixels: np.ndarray, divisor: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(S, S, C) to (C, S, S), v / divisor - offset by channel."""
    planes: np.ndarray = np.stack(cv2.split(np.ascontiguousarray(pixels)))
    planes *= (1 / divisor).astype(np.float32)[:, None, None]
    planes -= offset.astype(np.float32)[:, None, None]
    return planes


def is_grey(image: np.ndarray) -> bool:
    """Whether the three channels of an (H, W, 3) image are the same."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())
