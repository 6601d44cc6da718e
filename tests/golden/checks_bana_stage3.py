"""Recorded parts of BANA's third stage: noise-aware loss, inference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from tests.golden.compare import Comparison, close, each, exact
from tests.golden.frame import Arrays, check, tensor
from wsis.layers.deeplab import cosine_scores, resize_scores
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bana.nal import (
    IGNORE,
    NoiseParams,
    common_label,
    confidence,
    noise_aware_loss,
    unreliable_region,
)
from wsis.modeling.semantic_inference import (
    PROTOCOLS,
    ProtocolParams,
    label_image,
    multi_scale,
    single_scale,
)

OUTPUTS = "Y_final logit_cos unreliable sigma loss_ce loss_wce loss"


@check(
    "bana",
    "nal",
    f"features classifier_weight Y_crf Y_ret temp gamma lam {OUTPUTS}"
    " grad_features grad_features_detached grad_classifier grad_classifier_detached",
)
def bana_nal(arrays: Arrays) -> Iterator[Comparison]:
    """Cosines, labels, confidence, both losses; gradients with and without the confidence's own."""
    y_crf, y_ret = tensor(arrays["Y_crf"]), tensor(arrays["Y_ret"])
    label = common_label(y_crf, y_ret)
    unreliable = unreliable_region(label, y_crf)
    expected = {name: arrays[name] for name in OUTPUTS.split()}
    # the mean of nothing is recorded as NaN, and has to be 0
    regions = {"loss_ce": label != IGNORE, "loss_wce": unreliable}
    empty = [name for name, region in regions.items() if not region.any()]
    expected |= dict.fromkeys(empty, np.float32(0))
    lam = float(arrays["lam"])
    if empty:
        expected["loss"] = expected["loss_ce"] + arrays["lam"] * expected["loss_wce"]
    yield from each(arrays, {"Y_final": label, "unreliable": unreliable})
    for suffix in ("", "_detached"):
        params = NoiseParams(
            float(arrays["temp"]), float(arrays["gamma"]), 1.0, detach_confidence=bool(suffix)
        )
        features, weight = (
            tensor(arrays[name]).requires_grad_() for name in ("features", "classifier_weight")
        )
        logits = resize_scores(cosine_scores(features, weight), y_crf.shape[-2:])
        losses = noise_aware_loss(logits, y_crf, y_ret, params)
        loss = losses["loss_ce"] + lam * losses["loss_wce"]
        loss.backward()
        got = {
            "logit_cos": logits,
            "sigma": confidence(logits, y_crf, params.damping) * unreliable,
            "loss_ce": losses["loss_ce"],
            "loss_wce": losses["loss_wce"],
            "loss": loss,
        }
        for name, value in got.items():
            yield close(f"{name}{suffix}", value, expected[name])
        gradients = {"grad_features": features.grad, "grad_classifier": weight.grad}
        yield from each(arrays, gradients, close, 1e-3, 1e-6, case=f"{{}}{suffix}")


@check(
    "bana",
    "infer_ms_flip",
    "image_rgb input_bgr conv_weight classifier_weight temp dcrf crf_image_as_reference"
    " logit_aug0 pred_aug0_crf0 pred_aug0_crf1 pred_aug0_crf_true_rgb"
    " logit_aug1 pred_aug1_crf0 pred_aug1_crf1 pred_aug1_crf_true_rgb",
)
def bana_infer_ms_flip(arrays: Arrays) -> Iterator[Comparison]:
    """One scale and the mean of eight passes, each without a CRF, with it, and with the CRF on the wrapped image."""
    conv, classifier = tensor(arrays["conv_weight"]), tensor(arrays["classifier_weight"])

    def score(x: torch.Tensor) -> torch.Tensor:
        pooled = functional.avg_pool2d(x, 4, stride=4, ceil_mode=True)
        features = functional.conv2d(pooled, conv, padding=1, stride=2).relu()
        return cosine_scores(features, classifier)

    rgb, image = arrays["image_rgb"], tensor(arrays["input_bgr"])
    wrapped = np.trunc(arrays["input_bgr"]).astype(np.int64).astype(np.uint8).transpose(1, 2, 0)
    weight, xy_std, rgb_std, smooth, smooth_std = (float(v) for v in arrays["dcrf"])
    params = ProtocolParams(
        protocols=PROTOCOLS,
        temperature=float(arrays["temp"]),
        crf=DenseCRFParams(smooth, smooth_std, weight, xy_std, rgb_std, iterations=10),
        min_probability=0.0,
    )
    size = rgb.shape[0], rgb.shape[1]
    cosines = [single_scale(score, image, size), multi_scale(score, image, size, params.scales)]
    _, labels = label_image(score, image, size, params, rgb)
    _, parity = label_image(score, image, size, params, np.ascontiguousarray(wrapped))
    yield exact("crf_image_as_reference", wrapped, arrays["crf_image_as_reference"])
    for a, kind in enumerate(("single", "multi")):
        yield close(f"logit_aug{a}", cosines[a], arrays[f"logit_aug{a}"], rtol=1e-4, atol=1e-4)
        found = {"crf0": labels[kind], "crf1": parity[f"{kind}_crf"]}
        found["crf_true_rgb"] = labels[f"{kind}_crf"]
        yield from each(arrays, found, case=f"pred_aug{a}_{{}}")
