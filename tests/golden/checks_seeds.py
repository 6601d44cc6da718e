"""Recorded seeds of BAS: fusion with CAM, labels that one can be sure of, mIoU over background constants."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.golden.compare import Comparison, absolute, each, exact, share
from tests.golden.frame import Arrays, cases, check, tensor
from wsis.evaluation.seed_sweep import SeedSweep
from wsis.layers.dense_crf import DenseCRF
from wsis.layers.seeds import (
    ConfidentParams,
    confident_labels,
    full_sum,
    fused,
    label_map,
    smoothed,
    strided_sum,
)

CRF_BUILDS = 0.005
"""Share of pixels in which two builds of the CRF may differ."""


@check("bas", "wsss_cam_fusion", "size labels scales keys strided high_res bas_# cam_#")
def bas_wsss_cam_fusion(arrays: Arrays) -> Iterator[Comparison]:
    """Maps of all scales on both grids, their classes, BAS and CAM in one."""
    labels, (height, width) = arrays["labels"].nonzero()[0], arrays["size"].tolist()
    numbers = cases(arrays, "bas_#")
    yield exact("keys", labels, arrays["keys"])
    for name, grid in (("strided", strided_sum), ("high_res", full_sum)):
        kinds = [
            [tensor(arrays[f"{kind}_{i}"][labels]) for i in numbers] for kind in ("bas", "cam")
        ]
        maps = fused(*(grid(kind, height, width) for kind in kinds))
        yield absolute(name, maps, arrays[name], 1e-5)
    sides = np.ceil(np.outer(arrays["scales"], arrays["size"]) / 16)
    yield exact("scales", [arrays[f"bas_{i}"].shape[1:] for i in numbers], sides)


@check("bas", "wsss_ir_label", "image keys high_res argmax_fg argmax_bg crf_fg crf_bg ir_label")
def bas_wsss_ir_label(arrays: Arrays) -> Iterator[Comparison]:
    """The two label maps in local numbers, their CRFs, and what these agree on."""
    params, maps, image = ConfidentParams(), tensor(arrays["high_res"]), arrays["image"]
    number = len(maps) + 1
    crf = DenseCRF(image, params.crf, number)
    for name, background in (("fg", params.foreground), ("bg", params.background)):
        hard = label_map(maps, range(1, number), background).numpy()
        yield exact(f"argmax_{name}", hard, arrays[f"argmax_{name}"])
        smooth = smoothed(crf, hard, number, params.confidence)
        yield share(f"crf_{name}", smooth, arrays[f"crf_{name}"], CRF_BUILDS)
    found = confident_labels(image, maps, (arrays["keys"] + 1).tolist(), params)
    yield share("ir_label", found, arrays["ir_label"], CRF_BUILDS)


@check("bas", "wsss_seed_miou", "n_images keys_# high_res_# gt_# thresholds miou_f64 best_f64")
def bas_wsss_seed_miou(arrays: Arrays) -> Iterator[Comparison]:
    """Class maps against a constant background, for all constants in one pass."""
    numbers = cases(arrays, "gt_#")
    values = [arrays[f"gt_{i}"].max(initial=0) for i in numbers]
    values += [arrays[f"keys_{i}"].max(initial=0) + 1 for i in numbers]
    sweep = SeedSweep(int(max(values, default=0)) + 1, arrays["thresholds"])
    for i in numbers:
        labels = (arrays[f"keys_{i}"] + 1).tolist()
        sweep.add(arrays[f"high_res_{i}"], labels, arrays[f"gt_{i}"], ignore_label=-1)
    scores = sweep.scores()
    found = {"miou_f64": scores.mean_iou, "best_f64": scores.scores.mean_iou}
    yield exact("n_images", len(numbers), arrays["n_images"])
    yield from each(arrays, found, absolute, 1e-9)
