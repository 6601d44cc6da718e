"""Images seen through masks: what a mask leaves out is filled with something without content."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wsis.methods.bbam.proposals import box_generator
from wsis.methods.bbam.windows import Window

BLUR_KERNEL, BLUR_SIGMA, NOISE_STD = 11, 5.0, 0.2
NOISE_STREAM = 1
"""Of a box's random numbers; proposals are stream 0."""


def interpolation_matrix(cells: int, pixels: int, like: Tensor) -> Tensor:
    """Linear interpolation along one axis, first and last cell on first and last pixel.

    Args:
        cells: n, at least 1.
        pixels: N, at least 1.
        like: gives type and device.

    Returns:
        (N, n), rows sum to 1: ``interpolate(mode="bilinear", align_corners=True)`` for one axis.
    """
    each = torch.eye(cells, dtype=torch.float64)[None]
    return functional.interpolate(each, pixels, mode="linear", align_corners=True)[0].T.to(like)


class MaskBatch:
    """Masks of different resolution in one zero-padded tensor, for images of one size or windows of them.

    Attributes:
        values: (B, h, w) float, h and w the largest of all; what an optimiser works on.
        valid: (B, h, w) of the same type, 1 for cells, 0 for padding.

    Args:
        masks: B tensors (h_i, w_i) of one floating type on one device, at least one.
        height, width: size of the images.
        windows: B windows of one size; what is upsampled is then each mask's part in its window.
    """

    def __init__(
        self,
        masks: Sequence[Tensor],
        height: int,
        width: int,
        windows: Sequence[Window] | None = None,
    ) -> None:
        self._sizes = [(mask.shape[0], mask.shape[1]) for mask in masks]
        rows, columns = (max(size[axis] for size in self._sizes) for axis in (0, 1))
        self.values = masks[0].new_zeros((len(masks), rows, columns))
        self.valid = torch.zeros_like(self.values)
        windows = windows or [Window(0, 0, height, width)] * len(masks)
        self._to_rows = masks[0].new_zeros((len(masks), windows[0].height, rows))
        self._to_columns = masks[0].new_zeros((len(masks), columns, windows[0].width))
        for i, (mask, window) in enumerate(zip(masks, windows, strict=True)):
            h, w = self._sizes[i]
            self.values[i, :h, :w] = mask
            self.valid[i, :h, :w] = 1
            down = interpolation_matrix(h, height, mask)[window.y0 : window.y0 + window.height]
            right = interpolation_matrix(w, width, mask)[window.x0 : window.x0 + window.width]
            self._to_rows[i, : len(down), :h] = down
            self._to_columns[i, :w, : len(right)] = right.T

    def upsample(self) -> Tensor:
        """The masks at the size of image or window, bilinear with aligned corners: (B, 1, H, W); 0 beyond the image."""
        return torch.bmm(self._to_rows, self.values).bmm(self._to_columns)[:, None]

    def split(self, values: Tensor) -> list[Tensor]:
        """A padded (B, h, w) tensor as B tensors (h_i, w_i), copied."""
        parts = zip(values.detach(), self._sizes, strict=True)
        return [value[:h, :w].clone() for value, (h, w) in parts]


def perturb(images: Tensor, upsampled: Tensor, fill: Tensor | None = None) -> Tensor:
    """Phi(I, M) = up(M) I + (1 - up(M)) mu.

    Args:
        images: (B, 3, H, W), or (1, 3, H, W) shared by all masks, mean-subtracted.
        upsampled: (B, 1, H, W) masks in [0, 1] at image size.
        fill: mu, broadcast to (B, 3, H, W), mean-subtracted; default the mean colour, which is 0.

    Returns:
        (B, 3, H, W).
    """
    kept = images * upsampled
    return kept if fill is None else kept + (1 - upsampled) * fill


def fill_outside(image: Tensor, fill: Tensor, box: Tensor) -> Tensor:
    """A fill that leaves a box as it is: the box variant of the perturbation.

    Args:
        image: (3, H, W).
        fill: (3, H, W), what to show outside the box.
        box: (4,) XYXY in pixels, at least 0, truncated to integers, far edge exclusive.

    Returns:
        (3, H, W).
    """
    x0, y0, x1, y1 = (int(v) for v in box)
    out = fill.clone()
    out[:, y0:y1, x0:x1] = image[:, y0:y1, x0:x1]
    return out


def blurred(image: np.ndarray) -> np.ndarray:
    """The fill ``blur``.

    Args:
        image: (H, W, 3) uint8, at original size, any channel order.

    Returns:
        (H, W, 3) uint8, to be resized and normalised like the image.
    """
    return cv2.GaussianBlur(image, (BLUR_KERNEL, BLUR_KERNEL), BLUR_SIGMA)


def blurred_with_noise(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The fill ``blurrandom``: :func:`blurred` plus normal noise of standard deviation 0.2 x 255.

    Args:
        image: (H, W, 3) uint8, any channel order.
        generator: of the noise, see :func:`wsis.methods.bbam.proposals.box_generator`.

    Returns:
        (H, W, 3) float32 in [0, 255], to be resized and normalised like the image.
    """
    noise = generator.standard_normal(image.shape, dtype=np.float32) * NOISE_STD
    return ((blurred(image) / np.float32(255) + noise).clip(0, 1) * 255).astype(np.float32)


def make_fill(
    mode: str,
    outside_box: bool,
    image: Tensor,
    boxes: Tensor,
    annotation_ids: Sequence[int],
    seed: int,
    original: Callable[[], np.ndarray],
    prepare: Callable[[np.ndarray], Tensor],
) -> Tensor | None:
    """The fill of a batch of boxes.

    Args:
        mode: "mean", "blur" or "blurrandom".
        outside_box: hide pixels outside of each box only.
        image: (3, H, W) mean-subtracted.
        boxes: (B, 4) XYXY in network pixels.
        annotation_ids: B, which decide the noise.
        seed: of the noise.
        original: gives the image (H0, W0, 3) at its original size, uint8; only called where needed.
        prepare: resizes and normalises such an image, uint8 or float32 in [0, 255], to (3, H, W).

    Returns:
        For :func:`wsis.methods.bbam.explainer.explain`: None (the mean colour), (3, H, W) or (B, 3, H, W).
    """
    if mode == "blurrandom":
        pixels = original()
        generators = [box_generator(seed, number, NOISE_STREAM) for number in annotation_ids]
        fills = [prepare(blurred_with_noise(pixels, generator)) for generator in generators]
    elif not outside_box:
        return prepare(blurred(original())) if mode == "blur" else None
    else:
        shared = prepare(blurred(original())) if mode == "blur" else torch.zeros_like(image)
        fills = [shared] * len(boxes)
    if outside_box:
        fills = [fill_outside(image, fill, box) for fill, box in zip(fills, boxes, strict=True)]
    return torch.stack(fills)
