"""Recorded losses of ICAM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import torch

from tests.golden.compare import Comparison, absolute, each
from tests.golden.frame import Arrays, check, tensor
from wsis.layers.deeplab import resize_scores
from wsis.layers.feature_similarity import (
    SimilarityParams,
    colour_weight,
    colours_at,
    feature_similarity_loss,
)
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.methods.icam.losses import (
    LossParams,
    Maps,
    expected_importance_loss,
    map_losses,
    pooled_loss,
    probability_logit,
    sampled_importance_loss,
)

LOSS, GRADIENT = 1e-6, 1e-7
TERM, TERM_GRADIENT = 1e-5, 1e-6
MEAN, STD = (
    255 * torch.tensor(values).view(3, 1, 1)
    for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)


@check(
    "icam", "fsl", "image y mu sigma loss grad_y loss_f64 grad_y_from_f64 colour_term_first_rows"
)
def icam_fsl(arrays: Arrays) -> Iterator[Comparison]:
    """The feature-similarity loss and its gradient in both precisions, and q of the first pixels."""
    mu, sigma = float(arrays["mu"]), float(arrays["sigma"])
    outputs = {torch.float32: ("loss", "grad_y"), torch.float64: ("loss_f64", "grad_y_from_f64")}
    for kind, (loss, gradient) in outputs.items():
        y, image = tensor(arrays["y"]).to(kind).requires_grad_(), tensor(arrays["image"]).to(kind)
        found = feature_similarity_loss(y, image, mu, None if sigma == -1 else sigma)
        found.backward()
        yield absolute(loss, found, arrays[loss], LOSS)
        yield absolute(gradient, y.grad, arrays[gradient], GRADIENT)
    colours = image[0].flatten(1)
    rows = arrays["colour_term_first_rows"]
    distance = (colours[:, : len(rows), None] - colours[:, None]).abs().mean(dim=0)
    yield absolute("colour_term_first_rows", colour_weight(distance, mu), rows, LOSS)


@check(
    "icam",
    "is_loss",
    "logits labels indices probs pmf samples sample_logits loss grad_logits grad_probs expected_loss",
)
def icam_is_loss(arrays: Arrays) -> Iterator[Comparison]:
    """The importance-sampling loss of recorded draws with its gradients, and its expectation."""
    logits, tags = tensor(arrays["logits"]).requires_grad_(), tensor(arrays["labels"])
    pixels = tensor(arrays["indices"]).long()
    probabilities = logits.softmax(dim=1)
    probabilities.retain_grad()
    loss = sampled_importance_loss(probabilities, tags, pixels)
    loss.backward()
    values = probabilities.detach().flatten(2)
    samples = values.gather(2, pixels)
    found = {
        "probs": probabilities,
        "pmf": (values / values.sum(dim=2, keepdim=True)).view_as(logits),
        "samples": samples,
        "sample_logits": probability_logit(samples),
        "loss": loss,
        "expected_loss": expected_importance_loss(probabilities.detach(), tags),
    }
    yield from each(arrays, found, absolute, TERM)
    gradients = {"grad_logits": logits.grad, "grad_probs": probabilities.grad}
    yield from each(arrays, gradients, absolute, TERM_GRADIENT)


@check(
    "icam",
    "pooling_losses",
    "logits labels probs maxpool_logits loss_max grad_max gap_logits loss_gap grad_gap p_scalar p_scalar_logit",
)
def icam_pooling_losses(arrays: Arrays) -> Iterator[Comparison]:
    """Both poolings with their gradients, and logits of probabilities."""
    tags, logits = tensor(arrays["labels"]), tensor(arrays["logits"])
    probabilities = logits.softmax(dim=1)
    found = {
        "probs": probabilities,
        "maxpool_logits": probability_logit(probabilities.amax(dim=(2, 3), keepdim=True)),
        "gap_logits": logits.mean(dim=(2, 3), keepdim=True),
    }
    for name, pooling in (("max", "max"), ("gap", "avg")):
        own = logits.clone().requires_grad_()
        loss = pooled_loss(own, tags, pooling)
        (found[f"grad_{name}"],) = torch.autograd.grad(loss, own)
        found[f"loss_{name}"] = loss
    yield from each(arrays, found, absolute, TERM)
    logit = probability_logit(tensor(arrays["p_scalar"]))
    yield absolute("p_scalar_logit", logit, arrays["p_scalar_logit"], 1e-4)


SCALES = ("cam1", "cam2")
TERMS = "loss_er loss_ecr loss_fs loss_cls1_rv loss_cls2_rv loss_cls_total loss"


@check(
    "icam",
    "stage1_loss",
    f"img1 labels indices1 indices2 loss_weight {TERMS} "
    + " ".join(f"{s}{kind}_logit grad_{s}{kind}_logit" for s in SCALES for kind in ("", "_rv")),
)
def icam_stage1_loss(arrays: Arrays) -> Iterator[Comparison]:
    """All terms, their sum and its gradients. Which pooling a file was made with follows from the single terms."""
    tags, weight = tensor(arrays["labels"]), float(arrays["loss_weight"])
    logits = {
        f"{s}{kind}_logit": tensor(arrays[f"{s}{kind}_logit"]).requires_grad_()
        for s in SCALES
        for kind in ("", "_rv")
    }
    scales = tuple(Maps(logits[f"{s}_logit"], logits[f"{s}_rv_logit"]) for s in SCALES)

    def pooled(kind: str, pooling: str) -> dict[str, torch.Tensor]:
        """The terms of both sizes: of "plain" maps, or of "refined" ones."""
        name = {"plain": "loss_cls{}", "refined": "loss_cls{}_rv"}[kind]
        maps = [getattr(own, kind) for own in scales]
        return {name.format(i + 1): pooled_loss(m, tags, pooling) for i, m in enumerate(maps)}

    def error(poolings: tuple[str, str]) -> float:
        terms = pooled("refined", poolings[1]) | (
            pooled("plain", poolings[0]) if weight < 1 else {}
        )
        return sum(abs(value.item() - float(arrays[name])) for name, value in terms.items())

    plain, refined = min(product(("avg", "max"), repeat=2), key=error)
    params = LossParams(importance_weight=weight, pooling=plain, refined_pooling=refined)
    if not arrays["loss_fs"]:  # left out
        params = replace(params, similarity=replace(params.similarity, weight=0))
    size = scales[0].plain.shape[2:]
    colours = colours_at(tensor(arrays["img1"]), MEAN, STD, (size[0], size[1]))
    pixels = tuple(tensor(arrays[f"indices{i}"]).long() for i in (1, 2))
    losses = map_losses(scales, tags, colours, params, pixels)
    total = sum(losses.values())
    total.backward()
    found = {"loss_er": losses["loss_er"], "loss_ecr": losses["loss_ecr"], "loss": total}
    found["loss_cls_total"] = sum(
        losses.get(f"loss_{name}", 0.0) for name in ("pooled", "importance", "refined")
    )
    found["loss_fs"] = losses.get("loss_similarity", torch.zeros(())) / 0.5
    found |= pooled("refined", refined) | (pooled("plain", plain) if weight < 1 else {})
    if weight > 0:
        for i, (maps, drawn) in enumerate(zip(scales, pixels, strict=True)):
            own = sampled_importance_loss(maps.plain.softmax(dim=1), tags, drawn)
            found[f"loss_cls{i + 1}_is"] = own
    yield from each(arrays, found, absolute, TERM)
    gradients = {f"grad_{name}": values.grad for name, values in logits.items()}
    yield from each(arrays, gradients, absolute, TERM_GRADIENT)


@check("icam", "final_loss", "image low_logits seg ce fs loss")
def icam_final_loss(arrays: Arrays) -> Iterator[Comparison]:
    """Cross-entropy of enlarged logits and the feature-similarity loss of the logits as they are."""
    logits, seg = tensor(arrays["low_logits"]).requires_grad_(), tensor(arrays["seg"])
    params = SimilarityParams(weight=0.5)
    size = logits.shape[2:]
    colours = colours_at(tensor(arrays["image"]), MEAN, STD, (size[0], size[1]))
    ce = mean_cross_entropy(resize_scores(logits, (seg.shape[1], seg.shape[2])), seg)
    similarity = params.loss(logits.softmax(dim=1), colours)
    (ce + similarity).backward()
    if np.isnan(arrays["ce"]):  # the mean of nothing, which has to be 0
        expected = {"ce": 0, "loss": params.weight * arrays["fs"]}
        expected["grad"] = params.weight * arrays["grad_fs"]
    else:
        expected = {name: arrays[name] for name in ("ce", "loss", "grad")}
    found = {"ce": ce, "loss": ce + similarity, "grad": logits.grad}
    yield from each(expected, found, absolute, TERM)
    yield absolute("fs", similarity / params.weight, arrays["fs"], TERM)
