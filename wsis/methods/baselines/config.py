"""Keys of the baseline teachers."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import REQUIRED, key, node, part
from wsis.config.rules import Rule, above, at_least, at_least_below, within
from wsis.layers.dense_crf import DenseCRFParams


@dataclass(frozen=True)
class WindowParams:
    """What a rule sees around a box, and which of its masks count.

    Attributes:
        window: Side of the window that is seen, in box sides; what lies outside the box is background.
        box_side: Root of the box's area, in pixels, in what is seen: the window is resized to it, so that all widths in
            pixels are shares of the box, and every box costs the same; 0 = the image's own pixels.
        min_coverage: Share of the box below which a mask is a failure and the inscribed ellipse stands in.
    """

    window: float = key(REQUIRED, above(1))
    box_side: float = key(REQUIRED, within(0, 1024))
    min_coverage: float = key(REQUIRED, at_least_below(0, 1))


@node("MODEL.GRABCUT")
@dataclass(frozen=True)
class GrabCutParams:
    """OpenCV's GrabCut.

    Attributes:
        iterations: Rounds of colour model and cut.
    """

    iterations: int = key(2, at_least(1))
    seen: WindowParams = part(WindowParams(1.5, 96.0, 0.25))


@node("MODEL.BOX_CRF")
@dataclass(frozen=True)
class BoxCRFParams:
    """A dense CRF on what a box says by itself.

    Attributes:
        prior: Foreground probability in the box before the CRF, in (0, 1); outside it is 0.
        centre_weight: How much more the middle of the box is believed than its corners, see
            :func:`wsis.layers.box_shapes.centred`; 0 = all of it alike.
        threshold: Foreground probability after the CRF above which a pixel belongs to the mask.
    """

    prior: float = key(0.57, Rule("above 0 and below 1", lambda value: 0 < value < 1))
    centre_weight: float = key(0.0, within(0, 100))
    threshold: float = key(0.5, at_least_below(0, 1))
    seen: WindowParams = part(WindowParams(1.5, 48.0, 0.25))
    params: DenseCRFParams = part(DenseCRFParams(3.0, 1.0, 4.0, 15.0, 8.0, iterations=10))
