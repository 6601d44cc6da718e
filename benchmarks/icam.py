"""What ICAM's parts cost: the feature-similarity loss, and contour F, which every semantic result has."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.plain_similarity import plain_similarity
from benchmarks.timing import Row, forget_peak, in_fresh_process, interleave, memory, timing_rows
from wsis.layers.feature_similarity import feature_similarity_loss

PLAIN = "all pairs at once (plain)"
WAYS = {PLAIN: plain_similarity, "blocks of rows, closed form": feature_similarity_loss}
MU, SIGMA = 2.5, 5.0


def benchmark_icam(
    size: int = 56, classes: int = 21, images: int = 1, repeats: int = 5
) -> list[Row]:
    """The feature-similarity loss, forward and backward, against all pairs of pixels in one tensor and autograd.

    ``difference`` is the largest between the gradients of both, relative to the largest gradient; ``loss differs``
    absolute. Memory is that above what the process had before, in a fresh one.

    Args:
        size: of the map's side.
        classes: background included.
        images: of a batch.
        repeats: rounds that count.
    """
    y, colours = _batch(size, classes, images)
    found = {name: _forward_backward(name, y, colours) for name in WAYS}
    works = {name: lambda name=name: _forward_backward(name, y, colours) for name in WAYS}
    rows = timing_rows(interleave(works, repeats), PLAIN)
    peaks = {name: in_fresh_process(_peak, name, size, classes, images) for name in WAYS}
    loss, gradient = found[PLAIN]
    for row in rows:
        own_loss, own_gradient = found[row["way"]]
        row["peak memory (MB)"] = peaks[row["way"]] / 1e6
        # 0 where all fits into what the process has already
        row["memory / plain"] = peaks[row["way"]] / (peaks[PLAIN] or float("nan"))
        row["loss differs"] = abs(float(own_loss - loss))
        row["difference"] = float((own_gradient - gradient).abs().max() / gradient.abs().max())
    return rows


def _batch(size: int, classes: int, images: int) -> tuple[Tensor, Tensor]:
    """Predictions and smooth colours."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(images, classes, size, size, generator=generator).mul(3).softmax(dim=1)
    noise = torch.rand(images, 3, size + 8, size + 8, generator=generator)
    return y.requires_grad_(), torch.nn.functional.avg_pool2d(noise, 9, stride=1)


def _forward_backward(name: str, y: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    loss = WAYS[name](y, colours, MU, SIGMA)
    return loss.detach(), torch.autograd.grad(loss, y)[0]


def _peak(name: str, size: int, classes: int, images: int) -> int:
    """Memory in bytes above that before."""
    torch.set_num_threads(1)
    y, colours = _batch(size, classes, images)
    _forward_backward(name, y[..., :4, :4], colours[..., :4, :4])
    before = memory()
    forget_peak()
    _forward_backward(name, y, colours)
    return memory("VmHWM") - before
