"""Recorded losses of ICAM."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tests.golden.compare import Comparison, absolute
from tests.golden.frame import Arrays, check, tensor
from wsis.layers.feature_similarity import colour_weight, feature_similarity_loss

LOSS, GRADIENT = 1e-6, 1e-7


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
