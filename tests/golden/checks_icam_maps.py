"""Recorded steps from ICAM's probabilities to its score maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from tests.golden.compare import Comparison, absolute, exact, share
from tests.golden.frame import Arrays, cases, check, tensor
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.seeds import label_map
from wsis.methods.icam.maps import condition, crf_maps, mean_maps, winners

MAP = 1e-6
CRF = DenseCRFParams(3.0, 3.0, 10.0, 80.0, 13.0, iterations=10)


def recorded(arrays: Arrays) -> Callable[[Tensor], Tensor]:
    """A network that knows its image by the size, as it is and mirrored."""
    numbers = cases(arrays, "cam_#")
    maps = {i: (tensor(arrays[f"cam_{i}"]) + tensor(arrays[f"cam_rv_{i}"])) / 2 for i in numbers}
    pairs = {maps[i].shape[2:]: torch.cat([maps[i], maps[i + 1]]) for i in numbers[::2]}

    def network(images: Tensor) -> Tensor:
        return pairs[torch.Size(-(-side // 8) for side in images.shape[2:])]

    return network


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
    tags, size = np.flatnonzero(arrays["label"]).tolist(), arrays["image"].shape[:2]
    maps = mean_maps(recorded(arrays), torch.zeros(3, *size), tags, arrays["scales"], size)
    best, labels = winners(maps), [tag + 1 for tag in tags]
    yield exact("keys", tags, arrays["keys"])
    yield absolute("mean_cam", maps, arrays["mean_cam"], MAP)
    yield absolute("norm_cam", best, arrays["norm_cam"], MAP)
    label = label_map(best, labels, 1 - best.sum(dim=0, keepdim=True))
    yield share("pred", label, arrays["pred"], 1e-3)
    yield exact("crf_keys", [0, *labels], arrays["crf_keys"])
    for alpha, found in zip((2, 4), crf_maps(arrays["image"], best, (2, 4), CRF), strict=True):
        yield absolute(f"crf_alpha{alpha}", found, arrays[f"crf_alpha{alpha}"], 1e-3)
