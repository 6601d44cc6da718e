"""Recorded losses of BAS' classifier of image tags."""

from __future__ import annotations

from collections.abc import Iterator

from tests.golden.compare import Comparison, each, relative
from tests.golden.frame import Arrays, check, tensor
from wsis.layers.tag_losses import exclusive_cross_entropy


@check("bas", "wsss_multilabel_ce", "logits targets loss grad")
def bas_multilabel_ce(arrays: Arrays) -> Iterator[Comparison]:
    """Loss and its gradient."""
    scores = tensor(arrays["logits"]).requires_grad_()
    loss = exclusive_cross_entropy(scores, tensor(arrays["targets"]))
    loss.backward()
    yield from each(arrays, {"loss": loss, "grad": scores.grad}, relative, 1e-5)
