"""What takes the place of hidden pixels, for the boxes of one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from wsis.methods.bbam.perturb import blurred, blurred_with_noise, fill_outside
from wsis.methods.bbam.proposals import box_generator

NOISE_STREAM = 1
"""Of a box's random numbers; proposals are stream 0."""


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
