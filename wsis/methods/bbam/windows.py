"""Windows of the image around boxes, so that a small box does not cost a pass over all of it.

What a mask hides is the mean colour, 0 for the network, and so nearly all of the image is 0 while a box
is explained. A window that holds the proposals and some context gives nearly the same answers: not the
same ones, because biases and batch norms turn 0 into something else, and the edge of a window does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Window(NamedTuple):
    """A part of the network's image, which may reach beyond its far edges.

    Attributes:
        x0, y0: near corner in network pixels, multiples of the network's coarsest stride.
        height, width: in network pixels.
    """

    x0: int
    y0: int
    height: int
    width: int


def _snap(low: float, high: float, limit: int, divisor: int) -> tuple[int, int]:
    """The least multiples of the divisor around [low, high], inside of [0, limit]."""
    first = max(int(low // divisor), 0)
    last = min(-int(-high // divisor), -(-limit // divisor))
    return first * divisor, max(last, first + 1) * divisor


def window_of(
    proposals: Tensor, box: Tensor, context: float, size: tuple[int, int], divisor: int
) -> Window:
    """The window that a box needs.

    Args:
        proposals: (n, 4) XYXY in network pixels.
        box: (4,) XYXY in network pixels.
        context: pixels around all of them.
        size: height and width of the network's image.
        divisor: the network's coarsest stride.
    """
    corners = torch.cat([proposals, box[None].to(proposals)])
    near, far = corners[:, :2].amin(dim=0), corners[:, 2:].amax(dim=0)
    x0, x1 = _snap(float(near[0]) - context, float(far[0]) + context, size[1], divisor)
    y0, y1 = _snap(float(near[1]) - context, float(far[1]) + context, size[0], divisor)
    return Window(x0, y0, y1 - y0, x1 - x0)


def same_size(windows: Sequence[Window]) -> list[Window]:
    """The windows of a batch, each grown at its far edges to the largest height and width of all."""
    height = max(window.height for window in windows)
    width = max(window.width for window in windows)
    return [window._replace(height=height, width=width) for window in windows]


def cut(images: Tensor, windows: Sequence[Window]) -> Tensor:
    """The windows' pixels, 0 beyond the image.

    Args:
        images: (B, 3, H, W), or (1, 3, H, W) shared by all windows.
        windows: B windows of one size.

    Returns:
        (B, 3, h, w).
    """
    first = windows[0]
    out = images.new_zeros((len(windows), images.shape[1], first.height, first.width))
    for i, window in enumerate(windows):
        image = images[i if len(images) > 1 else 0]
        part = image[:, window.y0 : window.y0 + window.height, window.x0 : window.x0 + window.width]
        out[i, :, : part.shape[1], : part.shape[2]] = part
    return out


def shift(proposals: Tensor, window: Window) -> Tensor:
    """Proposals (n, 4) XYXY in the pixels of a window."""
    return proposals - proposals.new_tensor([window.x0, window.y0] * 2)
