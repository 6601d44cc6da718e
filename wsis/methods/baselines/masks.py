"""One box to one mask, four ways. Plain functions on arrays.

Boxes are (4,) XYXY in continuous pixel coordinates (see :mod:`wsis.structures.boxes`), cut to the
image; a mask is returned as a :data:`wsis.structures.Crop`: the window's (h, w) bool mask with the
column and row of its first pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from wsis.layers.box_shapes import centred, covers
from wsis.layers.box_window import BoxWindow, box_window
from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.methods.baselines.config import WindowParams
from wsis.structures import Crop

MIN_PIXELS = 5
"""GrabCut fits five colour components to the pixels inside and outside: it needs as many of each."""


def _mask_in_window(
    image: np.ndarray,
    box: np.ndarray,
    seen: WindowParams,
    threshold: float,
    foreground: Callable[[np.ndarray, BoxWindow], np.ndarray | None],
) -> Crop | None:
    """The mask that a rule finds in the window around a box, resized so that all boxes are of one size.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) XYXY.
        seen: the window, its size, and the smallest mask.
        threshold: of the foreground, above which a pixel of the box belongs to the mask.
        foreground: the rule. From the resized window, (h, w, 3) uint8, and where the box lies in it, it makes the
            foreground, (h, w) float32, or None where it has no answer.

    Returns:
        The mask, inside the box, or None where there is no answer or too small a one.
    """
    window = box_window(box, seen.window, seen.box_side, *image.shape[:2])
    found = foreground(window.view(image), window)
    if found is None:
        return None
    mask = (window.back(found) > threshold) & window.inside
    enough = covers(mask, window.inside.sum(), seen.min_coverage)
    return (mask, window.columns.start, window.rows.start) if enough else None


def grabcut(
    image: np.ndarray,
    box: np.ndarray,
    iterations: int,
    seen: WindowParams,
) -> Crop | None:
    """GrabCut (Rother et al. 2004, OpenCV): the box is probably, its surroundings surely known.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) XYXY.
        iterations: rounds of colour model and cut.
        seen: the window, its size, and the smallest mask.

    Returns:
        The mask, inside the box; None where the colour models cannot be fitted (fewer than
        :data:`MIN_PIXELS` pixels on a side, such as a box that fills the image) or too little is left.
    """

    def cut(patch: np.ndarray, window: BoxWindow) -> np.ndarray | None:
        inside = window.view_of_box()
        if inside.sum() < MIN_PIXELS or (~inside).sum() < MIN_PIXELS:
            return None
        labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # the colour models start from a random clustering
        box_unused = (0, 0, 1, 1)  # the labels say where the box is
        cv2.grabCut(patch, labels, box_unused, *models, iterations, cv2.GC_INIT_WITH_MASK)
        return np.isin(labels, (cv2.GC_PR_FGD, cv2.GC_FGD)).astype(np.float32)

    return _mask_in_window(image, box, seen, 0.5, cut)


def box_crf(
    image: np.ndarray,
    box: np.ndarray,
    params: DenseCRFParams,
    prior: float,
    centre_weight: float,
    threshold: float,
    seen: WindowParams,
) -> Crop | None:
    """A foreground probability in the box, higher in its middle, and zero outside, through a dense CRF.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) XYXY.
        params: of the dense CRF; widths in pixels of the resized window.
        prior: foreground probability in the box before the CRF, in (0, 1).
        centre_weight: how much higher it is in the middle of the box.
        threshold: of the probability after it.
        seen: the window, its size, and the smallest mask.

    Returns:
        The mask, inside the box, or None where too little is left.
    """

    def infer(patch: np.ndarray, window: BoxWindow) -> np.ndarray:
        foreground = np.zeros(window.size, dtype=np.float32)
        inside = foreground[window.box_in_view()]
        inside[...] = centred(np.full_like(inside, prior), centre_weight)
        return dense_crf(patch, np.stack([foreground, 1 - foreground]), params)[0]

    return _mask_in_window(image, box, seen, threshold, infer)
