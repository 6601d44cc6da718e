"""Recorded parts of BANA's third stage: noise-aware loss, inference."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from tests.golden.compare import Comparison, close, exact
from tests.golden.frame import Arrays, check
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

GRADIENT = {"rtol": 1e-3, "atol": 1e-6}


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values))


NAL_INPUTS = ("features", "classifier_weight", "Y_crf", "Y_ret", "temp", "gamma", "lam")
NAL_OUTPUTS = ("Y_final", "logit_cos", "unreliable", "sigma", "loss_ce", "loss_wce", "loss")
NAL_GRADIENTS = tuple(
    f"grad_{of}{suffix}" for of in ("features", "classifier") for suffix in ("", "_detached")
)


@check(method="bana", prefix="nal", arrays=NAL_INPUTS + NAL_OUTPUTS + NAL_GRADIENTS)
def bana_nal(arrays: Arrays) -> list[Comparison]:
    """Cosines, labels, confidence, both losses; gradients with and without the confidence's own."""
    y_crf, y_ret = _tensor(arrays["Y_crf"]), _tensor(arrays["Y_ret"])
    label = common_label(y_crf, y_ret)
    unreliable = unreliable_region(label, y_crf)
    expected = {name: arrays[name] for name in NAL_OUTPUTS}
    # the mean of nothing is recorded as NaN, and has to be 0 (pitfall P5)
    empty = [
        name
        for name, region in (("loss_ce", label != IGNORE), ("loss_wce", unreliable))
        if not region.any()
    ]
    expected |= dict.fromkeys(empty, np.float32(0))
    if empty:
        expected["loss"] = expected["loss_ce"] + arrays["lam"] * expected["loss_wce"]
    out = [
        exact("Y_final", label, arrays["Y_final"]),
        exact("unreliable", unreliable, arrays["unreliable"]),
    ]
    for suffix in ("", "_detached"):
        params = NoiseParams(
            float(arrays["temp"]), float(arrays["gamma"]), 1.0, detach_confidence=bool(suffix)
        )
        features = _tensor(arrays["features"]).requires_grad_()
        weight = _tensor(arrays["classifier_weight"]).requires_grad_()
        logits = resize_scores(cosine_scores(features, weight), y_crf.shape[-2:])
        losses = noise_aware_loss(logits, y_crf, y_ret, params)
        loss = losses["loss_ce"] + float(arrays["lam"]) * losses["loss_wce"]
        loss.backward()
        got = {
            "logit_cos": logits,
            "sigma": confidence(logits, y_crf, params.damping) * unreliable,
            "loss_ce": losses["loss_ce"],
            "loss_wce": losses["loss_wce"],
            "loss": loss,
        }
        out += [close(f"{n}{suffix}", v.detach(), expected[n]) for n, v in got.items()]
        for name, leaf in (("features", features), ("classifier", weight)):
            name = f"grad_{name}{suffix}"
            out.append(close(name, leaf.grad, arrays[name], **GRADIENT))
    return out


INFERENCE = ("image_rgb", "input_bgr", "conv_weight", "classifier_weight", "temp", "dcrf")
PREDICTIONS = tuple(
    f"{name}{a}{suffix}"
    for a in (0, 1)
    for name, suffix in (
        ("logit_aug", ""),
        ("pred_aug", "_crf0"),
        ("pred_aug", "_crf1"),
        ("pred_aug", "_crf_true_rgb"),
    )
)


@check(
    method="bana",
    prefix="infer_ms_flip",
    arrays=(*INFERENCE, "crf_image_as_reference", *PREDICTIONS),
)
def bana_infer_ms_flip(arrays: Arrays) -> list[Comparison]:
    """One scale and the mean of eight passes, each without a CRF, with it, and with the CRF on the wrapped image."""
    conv, classifier = _tensor(arrays["conv_weight"]), _tensor(arrays["classifier_weight"])

    def score(x: torch.Tensor) -> torch.Tensor:
        pooled = functional.avg_pool2d(x, 4, stride=4, ceil_mode=True)
        features = functional.conv2d(pooled, conv, padding=1, stride=2).relu()
        return cosine_scores(features, classifier)

    rgb, reference = arrays["image_rgb"], arrays["crf_image_as_reference"]
    image = _tensor(arrays["input_bgr"])
    wrapped = np.trunc(arrays["input_bgr"]).astype(np.int64).astype(np.uint8).transpose(1, 2, 0)
    weight, xy_std, rgb_std, smooth, smooth_std = (float(v) for v in arrays["dcrf"])
    params = ProtocolParams(
        protocols=PROTOCOLS,
        temperature=float(arrays["temp"]),
        crf=DenseCRFParams(smooth, smooth_std, weight, xy_std, rgb_std, iterations=10),
        min_probability=0.0,
    )
    size = rgb.shape[0], rgb.shape[1]
    cosines = [
        single_scale(score, image, size),
        multi_scale(score, image, size, params.scales),
    ]
    _, labels = label_image(score, image, size, params, rgb)
    _, parity = label_image(score, image, size, params, np.ascontiguousarray(wrapped))
    out = [exact("crf_image_as_reference", wrapped, reference)]
    for a, kind in enumerate(("single", "multi")):
        crf = f"{kind}_crf"
        out += [
            close(f"logit_aug{a}", cosines[a], arrays[f"logit_aug{a}"], rtol=1e-4, atol=1e-4),
            exact(f"pred_aug{a}_crf0", labels[kind], arrays[f"pred_aug{a}_crf0"]),
            exact(f"pred_aug{a}_crf1", parity[crf], arrays[f"pred_aug{a}_crf1"]),
            exact(f"pred_aug{a}_crf_true_rgb", labels[crf], arrays[f"pred_aug{a}_crf_true_rgb"]),
        ]
    return out
