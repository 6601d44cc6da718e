"""How semantic networks see an image in training: scaled, cropped, flipped, with other colours.

Image, boxes and label maps go through one draw: scale, pad to the crop's size, crop, flip. The colours change last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torchvision.transforms import functional

from wsis.config.params import key, node
from wsis.config.rules import at_least, at_least_below, pair

PADDING_RGB = (123, 117, 104)
"""Colour of the padding: the rounded Caffe mean."""


@node("INPUT.SCALED_CROP")
@dataclass(frozen=True)
class CropParams:
    """What is drawn from.

    Attributes:
        size: Side in pixels of the crops that BANA's networks and segmentors train on.
        scale_range: Lowest and highest factor that an image is scaled by before the crop.
        jitter: Range j of the colours, below 1: brightness, contrast and saturation are multiplied by factors in
            1 - j to 1 + j.
        hsv_shift: Before all else hue, saturation and value, of 180, 256 and 256 steps, are each shifted by at most
            this (ICAM's segmentor).
    """

    size: int = key(321, at_least(16))
    scale_range: tuple[float, float] = key(
        (0.5, 1.5),
        pair("two numbers above 0, the lower one first", lambda low, high: 0 < low <= high),
    )
    jitter: float = key(0.5, at_least_below(0, 1))
    hsv_shift: int = key(0, at_least(0))


@dataclass(frozen=True)
class Draw:
    """The random numbers of one sample.

    Attributes:
        scale: factor of size.
        x, y: where the crop lies in what is left of the width and the height, in [0, 1).
        flip: mirror left and right.
        colours: factors of brightness, contrast and saturation, applied in this order.
        hsv: steps that hue, saturation and value are shifted by.
    """

    scale: float
    x: float
    y: float
    flip: bool
    colours: tuple[float, float, float] = (1.0, 1.0, 1.0)
    hsv: tuple[int, ...] = (0, 0, 0)


def draw_sample(params: CropParams) -> Draw:
    """Draws from PyTorch's generator, which Detectron2 seeds in every loader process."""
    scale, x, y, flip, *colours = torch.rand(7).tolist()
    low, high = params.scale_range
    brightness, contrast, saturation = (1 + params.jitter * (2 * u - 1) for u in colours)
    factors, shift = (brightness, contrast, saturation), params.hsv_shift
    hsv = tuple(torch.randint(-shift, shift + 1, (3,)).tolist()) if shift else (0, 0, 0)
    return Draw(low + (high - low) * scale, x, y, flip < 0.5, factors, hsv)


def shifted_hsv(image: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """(H, W, 3) uint8 RGB with another hue, which goes round, and another saturation and value, which end at 0 and 255;
    in OpenCV's steps.
    """
    moved = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int16) + np.array(steps, np.int16)
    moved[..., 0] %= 180
    return cv2.cvtColor(moved.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)


@dataclass(frozen=True)
class CropTransform:
    """One draw for an image of one size.

    Attributes:
        size: height and width of the image.
        crop: height and width of the crop.
        draw: the random numbers.
    """

    size: tuple[int, int]
    crop: tuple[int, int]
    draw: Draw

    @property
    def scaled(self) -> tuple[int, int]:
        """Height and width after the scaling."""
        height, width = (max(1, int(n * self.draw.scale)) for n in self.size)
        return height, width

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels that are added above and below, and left and right: half of what a side lacks, rounded up."""
        rows, columns = (
            math.ceil(max(0, want - have) / 2)
            for have, want in zip(self.scaled, self.crop, strict=True)
        )
        return rows, columns

    @property
    def offset(self) -> tuple[int, int]:
        """First row and column of the crop in the padded image."""
        rows, columns = (
            math.floor(u * (have + 2 * pad - want))
            for u, have, pad, want in zip(
                (self.draw.y, self.draw.x), self.scaled, self.padding, self.crop, strict=True
            )
        )
        return rows, columns

    def image(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB to the crop's (h, w, 3) float32 RGB in 0 to 255, colours changed too."""
        if any(self.draw.hsv):
            image = shifted_hsv(image, self.draw.hsv)
        out = self._cut(image.astype(np.float32), cv2.INTER_LINEAR, PADDING_RGB)
        if self.draw.colours == (1.0, 1.0, 1.0):
            return out
        tensor = torch.from_numpy(out).permute(2, 0, 1) / 255
        brightness, contrast, saturation = self.draw.colours
        tensor = functional.adjust_brightness(tensor, brightness)
        tensor = functional.adjust_contrast(tensor, contrast)
        tensor = functional.adjust_saturation(tensor, saturation)
        return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy() * 255)

    def label(self, label: np.ndarray, fill: int) -> np.ndarray:
        """(H, W) uint8 to the crop's (h, w) by nearest neighbour, ``fill`` in the padding."""
        return self._cut(label, cv2.INTER_NEAREST, (fill,))

    def maps(self, maps: np.ndarray) -> np.ndarray:
        """(K, H, W) float32 to the crop's (K, h, w), bilinear, 0 in the padding."""
        return np.stack([self._cut(each, cv2.INTER_LINEAR, (0,)) for each in maps])

    def boxes(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes on the crop.

        Args:
            boxes: (N, 4) XYXY in pixels of the image.

        Returns:
            Those of the n boxes that the crop shows a part of, (n, 4) float32 cut to the crop, and (N,) bool which.
        """
        height, width = self.crop
        shift = np.array([p - o for p, o in zip(self.padding, self.offset, strict=True)] * 2)
        out = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * self.draw.scale + shift[::-1]
        seen = (out[:, :2] < (width, height)).all(axis=1) & (out[:, 2:] > 0).all(axis=1)
        out = out[seen].clip(0, (width, height) * 2)
        if self.draw.flip:
            out[:, 0::2] = width - out[:, 2::-2]
        return out.astype(np.float32), seen

    def _cut(self, image: np.ndarray, mode: int, fill: tuple[int, ...]) -> np.ndarray:
        height, width = self.scaled
        out = cv2.resize(image, (width, height), interpolation=mode)
        rows, columns = self.padding
        if rows or columns:
            out = cv2.copyMakeBorder(
                out, rows, rows, columns, columns, cv2.BORDER_CONSTANT, value=fill
            )
        top, left = self.offset
        out = out[top : top + self.crop[0], left : left + self.crop[1]]
        return np.ascontiguousarray(out[:, ::-1] if self.draw.flip else out)
