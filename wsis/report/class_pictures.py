"""Score maps in the colours of their classes, and the names of classes on a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from torch.nn import functional

from wsis.report.overlay import with_labels
from wsis.structures import ScoreMaps
from wsis.structures.pseudo_labels import IGNORE, voc_palette

_LETTERS = 11, 20
"""Pixels that letters have at least, and what share of a picture's longer side they are."""


def letter_size(picture: np.ndarray, least: int = _LETTERS[0]) -> int:
    """Of texts on a picture (H, W, 3), so that they can be read where it is shown small."""
    return max(least, max(picture.shape) // _LETTERS[1])


def class_colours(values: Sequence[int] | np.ndarray) -> np.ndarray:
    """VOC's colours of label values, as bright as they can be seen on grey; (K, 3) uint8 RGB."""
    colours = np.frombuffer(voc_palette(), dtype=np.uint8).reshape(256, 3)[np.asarray(values) % 256]
    top = colours.max(axis=1, keepdims=True).clip(min=1).astype(np.float64)
    return np.rint(255 * (0.2 + 0.8 * colours / top)).astype(np.uint8)


def scores_on(maps: ScoreMaps, height: int, width: int) -> np.ndarray:
    """Scores of every pixel of a picture of the image, (K, height, width) float32, see :meth:`ScoreMaps.enlarged`."""
    size, (rows, columns) = (height, width), maps.scores.shape[1:]
    if not len(maps.classes):
        return np.zeros((0, *size), dtype=np.float32)
    if maps.stride:  # the last cells may lie beyond the image
        tall, wide = height / maps.height, width / maps.width
        size = round(rows * maps.stride * tall), round(columns * maps.stride * wide)
    scores = torch.from_numpy(maps.scores)[None]
    full = functional.interpolate(scores, size, mode="bilinear", antialias=True)[0]
    return full[:, :height, :width].numpy()


def scores_picture(image: np.ndarray, maps: ScoreMaps) -> np.ndarray:
    """Score maps over the image in grey: in each pixel the colour of the class with the highest score, as strong as
    that is. Scores are shares of their class's largest one; that of background is not shown.

    Args:
        image: (H, W, 3) uint8 RGB, at whatever size.
        maps: of the image.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    shown = maps.classes > 0
    if not shown.any():
        return grey
    scores = scores_on(maps, *image.shape[:2])[shown]
    scores /= scores.max(axis=(1, 2), keepdims=True).clip(min=1e-9)
    strength = scores.max(axis=0)[..., None]
    colours = class_colours(maps.classes[shown])[scores.argmax(axis=0)]
    return np.rint(grey * (1 - strength) * 0.8 + (0.25 * grey + 0.75 * colours) * strength).astype(
        np.uint8
    )


def with_names(
    picture: np.ndarray, values: Iterable[int], class_names: Sequence[str]
) -> np.ndarray:
    """The picture with the names of classes in its upper left corner, each on its colour.

    Args:
        picture: (H, W, 3) uint8 RGB.
        values: of labels: c + 1 = class c; background and 255 have no name.
        class_names: of the data set, without background.
    """
    found = sorted({int(v) for v in values} - {0, IGNORE})
    if not found:
        return picture
    names = [class_names[v - 1] if v <= len(class_names) else str(v) for v in found]
    size = letter_size(picture)
    room = max(1, picture.shape[0] // (size + 3))
    if len(found) > room:
        names[room - 1 :] = [f"+ {len(found) - room + 1}"]
    corners = np.array([(0, (size + 3) * (row + 1)) for row in range(len(names))], dtype=np.float64)
    return with_labels(picture, corners, names, class_colours(found), size)
