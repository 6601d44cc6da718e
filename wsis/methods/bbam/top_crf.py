"""From attribution maps to masks: saturate the highest pixels, blur, dense CRF.

Works at the size of the original image. A box is a pair of row and column slices, see
:func:`wsis.structures.boxes.box_to_slices`; A is its number of pixels. (The reference takes the
last row and column of a box, which belong to it, for its exclusive end.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from wsis.config.params import key, part
from wsis.config.rules import Rule, each, pair, share, within
from wsis.errors import ConfigError
from wsis.layers.box_shapes import centred
from wsis.layers.box_window import box_window
from wsis.layers.dense_crf import DenseCRF, DenseCRFParams

Slices = tuple[slice, slice]
Refine = Callable[[np.ndarray], np.ndarray]
"""Foreground probability (H, W) before the CRF to that after it."""


@dataclass(frozen=True)
class TopCRFParams:
    """Constants of the method; pixels are those of the original image.

    Attributes:
        thresholds: The mask is made with the first, the region outside of which is background with the second
            threshold: t saturates the share 1 - t of the box.
        blur_base: Standard deviation of the blur in pixels of the original image for a box without area; BLUR_SLOPE
            sqrt(box area / image area) is added to it.
        blur_slope: What the blur's standard deviation has more for a box that fills the image.
        prior_range: Least and greatest foreground probability inside the box before the CRF. A least value above 0 says
            that a tight box is mostly object, which is what small objects need, whose maps are coarse.
        centre_weight: How much more the middle of the box is believed than its corners, see
            :func:`wsis.layers.box_shapes.centred`; 0 = as published.
        window: Side of the window around a box that the CRF sees, in box sides; 0 = the whole image, as published. With
            many small boxes a window of 2 costs a fraction of the time.
        box_side: Root of the box's area, in pixels, in that window: it is resized, so that all widths in pixels are
            shares of the box; 0 = the image's own pixels.
        marginal: Foreground probability after the CRF above which a pixel is kept.
        min_share: Share of the box that a mask must exceed, unless the box is large.
        large_share: Share of the image above which a box is large.
        priors: Probabilities inside a box whose mask was too small, tried in this order.
        prior_share: Share of the box that a mask from one of PRIORS must exceed to be taken at once.
        missing_priors: The priors for a box without attribution (status "fallback"); the first mask above MIN_SHARE is
            taken.
    """

    thresholds: tuple[float, float] = key(
        (0.85, 0.2), each("two numbers in [0, 1)", share, number=2)
    )
    blur_base: float = key(16.0)
    blur_slope: float = key(48.0)
    prior_range: tuple[float, float] = key(
        (0.0, 1.0), pair("two rising numbers in [0, 1]", lambda low, high: 0 <= low <= high <= 1)
    )
    centre_weight: float = key(0.0, within(0, 100))
    window: float = key(0.0, Rule("0 or above 1", lambda value: value == 0 or value > 1))
    box_side: float = key(0.0, within(0, 1024))
    crf: DenseCRFParams = part(DenseCRFParams(3.0, 1.0, 4.0, 80.0, 3.0, iterations=10))
    marginal: float = key(0.9)
    min_share: float = key(1 / 5)
    large_share: float = key(1 / 10)
    priors: tuple[float, ...] = key((0.7, 0.8, 0.9, 0.95, 0.96))
    prior_share: float = key(1 / 3)
    missing_priors: tuple[float, ...] = key((0.7, 0.8, 0.9, 0.95))

    def __post_init__(self) -> None:
        if self.box_side and not self.window:
            raise ConfigError(
                f"MODEL.BBAM.TOP_CRF.BOX_SIDE: found {self.box_side}, expected 0 without a window; give one by "
                "MODEL.BBAM.TOP_CRF.WINDOW 1.5"
            )


class BoxMasks(NamedTuple):
    """Two masks of one box, not cut to it.

    Attributes:
        foreground: (H, W) bool.
        region: (H, W) bool, foreground or uncertain; need not contain the foreground.
        status: "ok", "fallback" (made from a prior, there is no map) or "empty".
    """

    foreground: np.ndarray
    region: np.ndarray
    status: str


def foreground_crf(image: np.ndarray, params: DenseCRFParams) -> Refine:
    """The CRF of an image, built once, as a function of the foreground probability.

    Args:
        image: (H, W, 3) uint8.
        params: kernel and steps.
    """
    crf = DenseCRF(image, params, num_labels=2)
    return lambda probability: crf.infer(np.stack([probability, 1 - probability]))[0]


def box_area(box: Slices) -> int:
    """A, the pixels of a box."""
    rows, columns = box
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def cut_to(values: np.ndarray, box: Slices) -> np.ndarray:
    """(H, W) values, 0 outside of a box."""
    out = np.zeros_like(values)
    out[box] = values[box]
    return out


def prior_from_map(
    attribution: np.ndarray,
    box: Slices,
    threshold: float,
    params: TopCRFParams,
    image_area: int | None = None,
) -> np.ndarray | None:
    """Foreground probability of a box: its highest pixels saturated, blurred, brought to ``prior_range``.

    Args:
        attribution: (H, W) float32, at least 0.
        box: of the object.
        threshold: the share 1 - threshold of the box becomes 1 before the blur.
        params: width of the blur, range of the result.
        image_area: pixels of the image, if the map is a window of it.

    Returns:
        (H, W) float32 in [0, 1], 0 outside the box; None where the map is 0 all over the box.
    """
    area = box_area(box)
    inside = attribution[box]
    if area == 0 or not inside.any():
        return None
    rank = area - 1 - min(int(area * (1 - threshold)), area - 1)
    saturating = np.partition(inside, rank, axis=None)[rank] + 1e-8
    saturated = np.zeros_like(attribution)
    saturated[box] = (inside / saturating).clip(0, 1)
    size = int(
        params.blur_base + params.blur_slope * math.sqrt(area / (image_area or attribution.size))
    )
    blurred = cv2.GaussianBlur(saturated, (2 * size + 1, 2 * size + 1), size)[box]
    low, high = params.prior_range
    prior = np.zeros_like(attribution)
    prior[box] = centred(low + (high - low) * (blurred / blurred.max()), params.centre_weight)
    return prior


def refine_prior(
    prior: np.ndarray,
    box: Slices,
    refine: Refine,
    params: TopCRFParams,
    image_area: int | None = None,
) -> np.ndarray:
    """The mask of a box, with stronger priors where it comes out too small.

    Args:
        prior: (H, W) foreground probability in [0, 1].
        box: of the object.
        refine: the CRF.
        params: what is too small, and the stronger priors.
        image_area: pixels of the image, if the prior is a window of it.

    Returns:
        (H, W) bool.
    """
    area = box_area(box)
    first = refine(prior) > params.marginal
    large = area / (image_area or prior.size) > params.large_share
    if first.sum() > area * params.min_share or large:
        return first
    mask = first
    for value in params.priors:
        stronger = np.zeros_like(prior)
        stronger[box] = value
        stronger[first] = 1
        mask = refine(stronger) > params.marginal
        if mask.sum() > area * params.prior_share:
            break
    return mask


def mask_without_map(
    shape: tuple[int, int], box: Slices, refine: Refine, params: TopCRFParams
) -> np.ndarray | None:
    """The mask of a box from constant priors alone.

    Args:
        shape: height and width of the image.
        box: of the object.
        refine: the CRF.
        params: the priors.

    Returns:
        (H, W) bool, the first that is large enough, or None.
    """
    for value in params.missing_priors:
        prior = np.zeros(shape, dtype=np.float32)
        prior[box] = value
        mask = refine(prior) > params.marginal
        if mask.sum() > box_area(box) * params.min_share:
            return mask
    return None


def box_masks(
    shape: tuple[int, int],
    box: Slices,
    attribution: np.ndarray | None,
    refine: Refine,
    params: TopCRFParams,
    image_area: int | None = None,
) -> BoxMasks:
    """Both masks of one box, whatever there is to make them from.

    Args:
        shape: height and width of the image.
        box: of the object.
        attribution: (H, W) float32 map, or None where there is none.
        refine: the CRF of the image.
        params: constants.
        image_area: pixels of the image, if all this is a window of it.
    """
    if attribution is not None:
        priors = [
            prior_from_map(attribution, box, t, params, image_area) for t in params.thresholds
        ]
        made = [
            refine_prior(prior, box, refine, params, image_area)
            for prior in priors
            if prior is not None
        ]
        if len(made) == 2:
            return BoxMasks(made[0], made[1], "ok" if made[0].any() else "empty")
    mask = mask_without_map(shape, box, refine, params)
    if mask is None:
        nothing = np.zeros(shape, dtype=bool)
        return BoxMasks(nothing, nothing, "empty")
    return BoxMasks(mask, mask, "fallback")


def top_crf(
    image: np.ndarray,
    boxes: Sequence[Slices],
    attributions: Iterable[np.ndarray | None],
    params: TopCRFParams,
) -> Iterator[BoxMasks]:
    """The masks of all boxes of an image, one after the other.

    The CRF is built once for the image, or once per box for its window.

    Args:
        image: (H, W, 3) uint8 RGB, original size.
        boxes: N boxes.
        attributions: N maps, see :func:`wsis.methods.bbam.maps.map_at_image`.
        params: constants.

    Yields:
        One result per box, in their order: a box without mask does not shift the others.
    """
    if not boxes:
        return
    shape = (image.shape[0], image.shape[1])
    whole = None if params.window else foreground_crf(image, params.crf)
    for box, attribution in zip(boxes, attributions, strict=True):
        if whole is not None:
            yield box_masks(shape, box, attribution, whole, params)
        else:
            yield _masks_in_window(image, box, attribution, params)


def _masks_in_window(
    image: np.ndarray, box: Slices, attribution: np.ndarray | None, params: TopCRFParams
) -> BoxMasks:
    """Both masks of one box from its surroundings alone; outside of the window they are 0."""
    rows, columns = box
    height, width = image.shape[:2]
    edges = np.array([columns.start, rows.start, columns.stop, rows.stop])
    window = box_window(edges, params.window, params.box_side, height, width)
    made = box_masks(
        window.size,
        window.box_in_view(),
        None if attribution is None else window.view(attribution),
        foreground_crf(window.view(image), params.crf),
        params,
        math.ceil(height * width * math.prod(window.size) / window.inside.size),
    )
    masks = np.zeros((2, height, width), dtype=bool)
    for mask, small in zip(masks, (made.foreground, made.region), strict=True):
        mask[window.rows, window.columns] = window.back(small.astype(np.float32)) > 0.5
    return BoxMasks(masks[0], masks[1], made.status)
