"""Recorded parts of BANA's third stage: noise-aware loss, inference."""

from __future__ import annotations

import numpy as np
import torch

from tests.golden.compare import Comparison, close, exact
from tests.golden.frame import Arrays, check
from wsis.layers.deeplab import cosine_scores, resize_scores
from wsis.methods.bana.nal import (
    NoiseParams,
    common_label,
    confidence,
    noise_aware_loss,
    unreliable_region,
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
        out += [close(f"{n}{suffix}", v.detach(), arrays[n]) for n, v in got.items()]
        for name, leaf in (("features", features), ("classifier", weight)):
            name = f"grad_{name}{suffix}"
            out.append(close(name, leaf.grad, arrays[name], **GRADIENT))
    return out
