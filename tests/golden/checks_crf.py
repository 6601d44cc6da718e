"""Recorded dense CRF marginals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from tests.golden.compare import Comparison, absolute, exact
from tests.golden.frame import Arrays, cases, check
from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.layers.label_maps import mean_over_scales

MARGINAL = 1e-3


@check("bana", "densecrf", "image_rgb prob params# Q#")
def bana_densecrf(arrays: Arrays) -> Iterator[Comparison]:
    """Ten steps with each recorded parameter set."""
    for i in cases(arrays, "Q#"):
        weight, xy_std, rgb_std, smooth, smooth_std = (float(v) for v in arrays[f"params{i}"])
        params = DenseCRFParams(smooth, smooth_std, weight, xy_std, rgb_std, iterations=10)
        got, expected = dense_crf(arrays["image_rgb"], arrays["prob"], params), arrays[f"Q{i}"]
        yield absolute(f"Q{i}", got, expected, MARGINAL)
        yield exact(f"argmax Q{i}", got.argmax(axis=0), expected.argmax(axis=0))


@check("bbam", "crf_raw", "image prob q_annotation q_inference")
def bbam_crf_raw(arrays: Arrays) -> Iterator[Comparison]:
    """The kernels of mask annotation (xy std 80) and of evaluation (67)."""
    for name, xy_std in (("q_annotation", 80.0), ("q_inference", 67.0)):
        params = DenseCRFParams(3.0, 1.0, 4.0, xy_std, 3.0, iterations=10)
        got = dense_crf(arrays["image"], arrays["prob"], params)
        yield absolute(name, got, arrays[name], MARGINAL)


@check("icam", "final_infer_crf", "image prob crf pred logits_#")
def icam_final_infer_crf(arrays: Arrays) -> list[Comparison]:
    """Logits of all scales (odd ones mirrored) to probabilities, one CRF step, labels."""
    numbers = cases(arrays, "logits_#")
    logits = mean_over_scales(
        [torch.from_numpy(arrays[f"logits_{i}"]) for i in numbers],
        [i % 2 == 1 for i in numbers],
        size=arrays["image"].shape[:2],
        align_corners=True,
    )
    prob = logits[0].softmax(dim=0).numpy()
    params = DenseCRFParams(3.0, 3.0, 10.0, 32.0, 13.0, iterations=1)
    crf = dense_crf(arrays["image"], prob, params)
    return [
        absolute("prob", prob, arrays["prob"], 1e-6),
        absolute("crf", crf, arrays["crf"], MARGINAL),
        exact("pred", crf.argmax(axis=0).astype(np.uint8), arrays["pred"]),
    ]
