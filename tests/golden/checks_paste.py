"""Recorded masks pasted into images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.golden.compare import Comparison, absolute, exact, share
from tests.golden.frame import Arrays, cases, check
from tests.golden.reference import paste_bordered
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.paste import byte_mask, minmax_normalise, place_crop, quantise
from wsis.layers.paste_crf import paste_with_crf

EVALUATION_CRF = DenseCRFParams(3.0, 1.0, 4.0, 67.0, 3.0, iterations=10)


@check("boxcaseg", "paste", "prob normalised boxes image_hw masks")
def boxcaseg_paste(arrays: Arrays) -> list[Comparison]:
    """Min-max normalised maps as bytes; a constant map (recorded as NaN) gives an empty mask."""
    height, width = (int(v) for v in arrays["image_hw"])
    normalised = minmax_normalise(arrays["prob"])
    expected = np.nan_to_num(arrays["normalised"], nan=0.0)
    masks = np.zeros(arrays["masks"].shape, dtype=bool)
    for i, (x0, y0, x1, y1) in enumerate(arrays["boxes"].tolist()):
        crop = byte_mask(quantise(normalised[i]), y1 - y0, x1 - x0)
        masks[i] = place_crop(crop, x0, y0, height, width)
    return [
        absolute("normalised", normalised, expected, 1e-6),
        exact("masks", masks, arrays["masks"]),
    ]


@check("bbam", "paste", "image_rgb_# mask28_# box_# plain_# crf_#")
def bbam_paste(arrays: Arrays) -> Iterator[Comparison]:
    """The plain paste, and the one refined by the evaluation CRF on the BGR image."""
    for i in cases(arrays, "mask28_#"):
        image, probability, box = (arrays[f"{n}_{i}"] for n in ("image_rgb", "mask28", "box"))
        plain = paste_bordered(probability, box, *image.shape[:2])
        refined = paste_with_crf(image[..., ::-1], probability, box, EVALUATION_CRF)
        yield exact(f"plain_{i}", plain, arrays[f"plain_{i}"])
        yield share(f"crf_{i}", refined, arrays[f"crf_{i}"], 0.005)
