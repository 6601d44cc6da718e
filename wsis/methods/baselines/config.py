"""Keys of the baseline teachers."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import Rule, above, at_least, at_least_below
from wsis.layers.dense_crf import DenseCRFParams


@node("MODEL.GRABCUT")
@dataclass(frozen=True)
class GrabCutParams:
    """OpenCV's GrabCut.

    Attributes:
        iterations: Rounds of colour model and cut.
        window: Side of the window that GrabCut sees, in box sides; what lies outside the box is background.
    """

    iterations: int = key(5, at_least(1))
    window: float = key(2.0, above(1))


@node("MODEL.BOX_CRF")
@dataclass(frozen=True)
class BoxCRFParams:
    """A dense CRF on a constant prior.

    Attributes:
        prior: Foreground probability of every pixel in the box before the CRF, in (0, 1); outside it is 0.
        threshold: Foreground probability after the CRF above which a pixel belongs to the mask.
        window: Side of the window that the CRF sees, in box sides.
    """

    prior: float = key(0.7, Rule("above 0 and below 1", lambda value: 0 < value < 1))
    threshold: float = key(0.5, at_least_below(0, 1))
    window: float = key(2.0, above(1))
    params: DenseCRFParams = part(DenseCRFParams(3.0, 1.0, 4.0, 30.0, 10.0, iterations=10))
