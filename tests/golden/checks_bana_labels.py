"""Recorded pseudo labels of BANA's stage 2, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from tests.golden.compare import Comparison, absolute, close, each, exact, share
from tests.golden.frame import Arrays, check, tensor
from wsis.layers.dense_crf import DenseCRFParams, dense_crf
from wsis.layers.enlarged import Enlarged
from wsis.layers.label_to_masks import ImageBoxes, union
from wsis.methods.bana.pseudo_labels import (
    LabelParams,
    background_attention,
    background_score,
    best_label,
    class_unaries,
    intersection,
    retrieval_maps,
    semantic_labels,
    unary_probabilities,
)
from wsis.structures.boxes import box_to_slices

MARGINAL = 1e-3
FLIPPED = 0.002
"""Share of pixels that may lie so close to the threshold that rounding decides."""

ARRAYS = """
image_rgb boxes boxes_used bg_mask features classifier_weight bg_threshold dcrf class_ids
query bg_attention_thresholded bg_unary cam_norm unary_prob crf_prob crf_prob_boxmasked corr_maps bg_unary_no_u0
Y_crf Y_ret Y_final Y_crf_no_u0"""


def image_boxes(arrays: Arrays) -> ImageBoxes:
    """The recorded boxes."""
    size = tuple(arrays["bg_mask"].shape)
    boxes = [box_to_slices(box, *size) for box in arrays["boxes"][:, :4]]
    labels = arrays["boxes"][:, 4]
    return ImageBoxes(size, boxes, labels, torch.from_numpy(arrays["bg_mask"] == 1))


def label_params(arrays: Arrays) -> LabelParams:
    """The recorded constants."""
    weight, xy_std, rgb_std, smooth, smooth_std = (float(v) for v in arrays["dcrf"])
    crf = DenseCRFParams(smooth, smooth_std, weight, xy_std, rgb_std, iterations=10)
    return LabelParams(crf, float(arrays["bg_threshold"]))


@check("bana", "stage2_", ARRAYS)
def bana_stage2(arrays: Arrays) -> Iterator[Comparison]:
    """Every map in its order, then the labels, with and without background attention."""
    boxes, params = image_boxes(arrays), label_params(arrays)
    features = Enlarged(tensor(arrays["features"]), boxes.size)
    weights = tensor(arrays["classifier_weight"])
    rows = list(range(1, len(weights)))
    inside = union(boxes.boxes, boxes.size)
    attention = background_attention(features, boxes.background, params.threshold)
    unaries = class_unaries(features, boxes, weights, rows, params)
    probabilities = unary_probabilities(unaries, inside)
    marginals = torch.from_numpy(dense_crf(arrays["image_rgb"], probabilities.numpy(), params.crf))
    y_crf = best_label(marginals, boxes.regions(), boxes.present)
    maps = retrieval_maps(features, boxes, weights, rows, y_crf, unaries)
    y_ret = best_label(maps, boxes.regions(), boxes.present)
    found = {
        "query": features.mean(boxes.background)[None],
        "cam_norm": unaries[1:],
        "corr_maps": maps,
        "bg_unary_no_u0": background_score(features.products(weights[:1])[0], inside),
    }
    yield from each(arrays, found, close)
    thresholded = {
        "bg_attention_thresholded": attention,
        "bg_unary": unaries[0],
        "unary_prob": probabilities,
    }
    for name, value in thresholded.items():
        off = ~np.isclose(value.numpy(), arrays[name], rtol=1e-4, atol=1e-5)
        yield share(name, off, np.zeros_like(off), FLIPPED)
    used = [
        (x.start, y.start, x.stop, y.stop, c)
        for (y, x), c in zip(boxes.boxes, boxes.labels, strict=True)
    ]
    yield exact("boxes_used", np.reshape(used, (-1, 5)), arrays["boxes_used"])
    yield exact("class_ids", boxes.present, arrays["class_ids"])
    masked = torch.cat([marginals[:1], marginals[1:] * boxes.regions()])
    crf = {"crf_prob": marginals, "crf_prob_boxmasked": masked}
    yield from each(arrays, crf, absolute, MARGINAL)
    without = replace(params, use_attention=False)
    image = arrays["image_rgb"]
    labels = {
        "Y_crf": y_crf,
        "Y_ret": y_ret,
        "Y_final": intersection(y_crf, y_ret),
        "Y_crf_no_u0": semantic_labels(image, features, boxes, weights, rows, without)[0],
    }
    yield from each(arrays, labels)
