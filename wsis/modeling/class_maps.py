"""Maps of an image's classes over several scales and mirror images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from wsis.modeling.semantic_inference import Scorer, mirrored_sum


def maps_over_scales(
    network: Scorer, image: torch.Tensor, scales: Sequence[float]
) -> list[torch.Tensor]:
    """The sum of the maps of an image and of its mirror image, turned back, at each scale.

    Args:
        network: makes the maps.
        image: (3, h, w), normalised; the sides of a scaled one are rounded (bicubic, antialiased).
        scales: factors.

    Returns:
        (C, h_i, w_i) of each scale.
    """
    maps = []
    for scale in scales:
        scaled, size = image[None], [max(1, round(scale * side)) for side in image.shape[1:]]
        if scale != 1:
            scaled = functional.interpolate(
                scaled, size, mode="bicubic", align_corners=False, antialias=True
            )
        maps.append(mirrored_sum(network, scaled))
    return maps
