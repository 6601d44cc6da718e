"""Network input of the published detector, for weights of the original release."""

from __future__ import annotations

PIXEL_MEAN_BGR = (102.9801, 115.9465, 122.7717)
"""Subtracted from 0-255 images in BGR order; the standard deviation is 1."""


def network_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Size of an image after the published resize.

    Detectron2's ``ResizeShortestEdge`` rounds where this rule truncates, so the longer side can
    differ by a pixel, and it never exceeds ``longest``, while this rule can by a few pixels.

    Args:
        height, width: of the image in pixels.
        short: wanted length of the shorter side.
        longest: the shorter side shrinks where the longer one would exceed this.

    Returns:
        New height and width.
    """
    low, high = float(min(height, width)), float(max(height, width))
    if high / low * short > longest:
        short = round(longest * low / high)
    if min(height, width) == short:
        return height, width
    if width < height:
        return int(short * height / width), short
    return short, int(short * width / height)
