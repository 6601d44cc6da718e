"""Large-scale jitter: an image at any size, and a window of it."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.data import transforms as T

from wsis.config.params import key, node
from wsis.config.rules import at_least, pair


@node("INPUT.SCALE_JITTER")
@dataclass(frozen=True)
class ScaleJitterParams:
    """Large-scale jitter (Ghiasi et al.: *Simple Copy-Paste*, CVPR 2021) in place of the shortest edge.

    Attributes:
        size: Detectors and students train on windows of this height and width, in pixels; 0 = on whole images of
            MIN_SIZE_TRAIN. A smaller image stays as it is.
        scale: Smallest and largest factor: before the window is cut out, the image is resized to fit into a square of
            SIZE times a number between them.
    """

    size: int = key(0, at_least(0))
    scale: tuple[float, float] = key(
        (0.1, 2.0), pair("two rising numbers above 0", lambda low, high: 0 < low <= high)
    )

    def augmentations(self) -> list[T.Augmentation]:
        """Resize, then window."""
        window = (self.size, self.size)
        return [T.ResizeScale(*self.scale, *window), T.FixedSizeCrop(window, pad=False)]
