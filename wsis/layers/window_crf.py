"""A mask moved to the edges of the colours: a dense CRF in a window around the box, of the same size for every box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsis.config.params import key, part
from wsis.config.rules import Rule
from wsis.layers.box_window import box_window, resized
from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.structures import Crop

WINDOW = 1.5
"""Side of the window, in box sides."""
BOX_SIDE = 72.0
"""Root of the box's area in the resized window, in pixels: the CRF's widths are shares of the box."""


@dataclass(frozen=True)
class WindowCRFParams:
    """How far colours decide where a mask ends.

    Attributes:
        refine: A dense CRF moves the outline to the edges of the colours near it: masks of few cells are finer then.
        confidence: What a probability of 1 is for the CRF, and 0 the rest: the less, the more the colours decide.
    """

    refine: bool = key(False)
    confidence: float = key(0.8, Rule("above 0.5 and below 1", lambda value: 0.5 < value < 1))
    crf: DenseCRFParams = part(
        DenseCRFParams(1.5, 1.0, 4.0, 8.0, 8.0, iterations=10),
        "CRF",
        f"By this CRF REFINE works, on boxes resized to {BOX_SIDE:g} pixels a side.",
    )


def refined_in_window(
    image: np.ndarray, box: np.ndarray, probability: Crop, threshold: float, params: WindowCRFParams
) -> Crop:
    """The mask of a box from its foreground probability and the colours.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) XYXY; outside of it all is background.
        probability: (h, w) float32 in [0, 1], and the column and row of its first pixel; 0 elsewhere.
        threshold: of the probability, where the mask begins.
        params: how.

    Returns:
        (h', w') bool, the pixels of the box's window, and the column and row of the first.
    """
    window = box_window(box, WINDOW, BOX_SIDE, *image.shape[:2])
    values = _cut(probability, window.rows, window.columns)
    inside = window.view_of_box()
    even = resized(values, window.size) ** (np.log(0.5) / np.log(np.clip(threshold, 0.001, 0.999)))
    low = 1 - params.confidence
    unary = np.where(inside, low + (params.confidence - low) * even, 0).astype(np.float32)
    made = dense_crf(window.view(image), np.stack([unary, 1 - unary]), params.crf)[0]
    return (window.back(made) > 0.5) & window.inside, window.columns.start, window.rows.start


def _cut(crop: Crop, rows: slice, columns: slice) -> np.ndarray:
    """A crop's values on a window of the image, float32, 0 where it has none."""
    values, x0, y0 = crop
    out = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
    top, left = max(rows.start, y0), max(columns.start, x0)
    bottom = min(rows.stop, y0 + values.shape[0])
    right = min(columns.stop, x0 + values.shape[1])
    if bottom > top and right > left:
        out[
            top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
        ] = values[top - y0 : bottom - y0, left - x0 : right - x0]
    return out
