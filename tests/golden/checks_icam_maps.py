"""Recorded steps from ICAM's probabilities to its score maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.golden.compare import Comparison, absolute, exact, share
from tests.golden.frame import Arrays, cases, check, tensor
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.icam.maps import best_class, condition, crf_maps, mean_maps, tag_mask, winners

MAP = 1e-6
CRF = DenseCRFParams(3.0, 3.0, 10.0, 80.0, 13.0, iterations=10)


@check("icam", "label_cond", "probs label out")
def icam_label_cond(arrays: Arrays) -> list[Comparison]:
    """Probabilities of what the tags allow."""
    found = condition(tensor(arrays["probs"]), tensor(arrays["label"]))
    return [absolute("out", found, arrays["out"], MAP)]


@check(
    "icam",
    "infer",
    "label image scales mean_cam norm_cam keys cam_# cam_rv_# pred crf_keys crf_alpha2 crf_alpha4",
)
def icam_infer(arrays: Arrays) -> Iterator[Comparison]:
    """Means over sizes and mirror images (odd ones), winners, labels, CRF maps of both powers."""
    numbers, tags = cases(arrays, "cam_#"), np.flatnonzero(arrays["label"])
    yield exact("pairs of sizes", len(numbers), 2 * len(arrays["scales"]))
    pairs = [tensor(arrays[f"cam_{i}"]) / 2 + tensor(arrays[f"cam_rv_{i}"]) / 2 for i in numbers]
    # the sides are rounded before they are divided by 8, rounded up
    sides = [
        np.ceil(np.round(np.array(arrays["image"].shape[:2]) * s) / 8) for s in arrays["scales"]
    ]
    yield exact("sizes", [pair.shape[2:] for pair in pairs[::2]], np.stack(sides))
    mirrored = [i % 2 == 1 for i in numbers]
    allowed = tag_mask(tags, len(arrays["label"]))
    maps = mean_maps(pairs, mirrored, allowed, arrays["image"].shape[:2])[tags]
    best = winners(maps)
    yield exact("keys", tags, arrays["keys"])
    yield absolute("mean_cam", maps, arrays["mean_cam"], MAP)
    yield absolute("norm_cam", best, arrays["norm_cam"], MAP)
    yield share("pred", best_class(best, tags + 1), arrays["pred"], 1e-3)
    yield exact("crf_keys", [0, *(tags + 1)], arrays["crf_keys"])
    for alpha in (2, 4):
        found = crf_maps(arrays["image"], best.numpy(), alpha, CRF)
        yield absolute(f"crf_alpha{alpha}", found, arrays[f"crf_alpha{alpha}"], 1e-3)
