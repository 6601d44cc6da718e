"""From the score maps of several scales to one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def mean_over_scales(
    maps: Sequence[Tensor], flipped: Sequence[bool], size: tuple[int, int], align_corners: bool
) -> Tensor:
    """The mean of maps resized to one size, mirrored ones turned back first.

    Args:
        maps: tensors (N, C, h_i, w_i), at least one.
        flipped: per map, whether it was made from the horizontally mirrored image.
        size: height and width of the result.
        align_corners: of the bilinear resize.

    Returns:
        (N, C, H, W).
    """
    total = maps[0].new_zeros(())
    for scores, mirrored in zip(maps, flipped, strict=True):
        resized = functional.interpolate(
            scores, size=size, mode="bilinear", align_corners=align_corners
        )
        total = total + (resized.flip(-1) if mirrored else resized)
    return total / len(maps)
