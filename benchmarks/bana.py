"""BANA's pooling and pseudo labels on few maps against the plain ways, which carry all channels along."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.timing import (
    Row,
    forget_peak,
    in_fresh_process,
    interleave,
    memory,
    timing_rows,
)
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.enlarged import Enlarged
from wsis.methods.bana.lattice import box_lattice
from wsis.methods.bana.plain import FullSize, pool_box_by_box
from wsis.methods.bana.pooling import PoolingParams, background_aware_pooling
from wsis.methods.bana.pseudo_labels import ImageBoxes, LabelParams, semantic_labels, union

CLASSES = 20


def benchmark_bana_pooling(
    boxes: int = 40, images: int = 8, channels: int = 1024, size: int = 41, repeats: int = 5
) -> list[Row]:
    """BAP, forward and backward, of all boxes at once against box by box, cell by cell and window by window.

    Sides of boxes are 20 to 80 % of the crop's. ``difference`` is the largest between the gradients of both, relative
    to the largest gradient.

    Args:
        boxes: number of boxes.
        images: number of images.
        channels: of the features.
        size: of the features' side; 41 is that of a crop of 321 pixels.
        repeats: rounds that count.
    """
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(images, channels, size, size, generator=generator).requires_grad_()
    mask = torch.ones(images, 8 * size, 8 * size)
    mask[:, size : 5 * size, size : 5 * size] = 0
    side = 0.4 + 1.2 * torch.rand(boxes, 2, generator=generator)  # the crop's is 2
    near = (2 - side) * torch.rand(boxes, 2, generator=generator) - 1
    corners = torch.cat([near, near + side], dim=1)
    image = torch.arange(boxes) * images // boxes
    gradients: dict[str, torch.Tensor] = {}

    def backward(name: str, windows: torch.Tensor, queries: torch.Tensor) -> None:
        loss = windows.square().sum() + queries.square().sum()
        (gradients[name],) = torch.autograd.grad(loss, features)

    def plain() -> None:
        backward("plain", *pool_box_by_box(features, mask, corners, image, PoolingParams()))

    def at_once() -> None:
        lattice = box_lattice(corners, image, (size, size))
        pooled = background_aware_pooling(features, mask, lattice, 4)
        backward("all boxes at once", pooled.windows, pooled.queries)

    rows = timing_rows(interleave({"plain": plain, "all boxes at once": at_once}, repeats), "plain")
    expected = gradients["plain"]
    for row in rows:
        off = (gradients[row["way"]] - expected).abs().max() / expected.abs().max()
        row["difference"] = float(off)
    return rows


def benchmark_bana_labels(
    height: int = 375,
    width: int = 500,
    channels: int = 1024,
    boxes: int = 3,
    crf_steps: int = 10,
    repeats: int = 3,
) -> list[Row]:
    """Y_crf and Y_ret of an image from features at the network's size against features enlarged to the image's.

    Each way runs in a fresh process, whose memory is its own; ``label pixels that differ`` is the share of pixels of
    both labels that are not as in the plain way.

    Args:
        height, width: of the image in pixels.
        channels: of the features.
        boxes: number of boxes, each of another class.
        crf_steps: mean-field steps; 0 replaces the CRF's work, which both ways share, by 1 step.
        repeats: rounds that count.
    """
    arguments = (height, width, channels, boxes, max(crf_steps, 1), repeats)
    found = {name: in_fresh_process(_labels, name, *arguments) for name in FEATURES}
    rows: list[Row] = []
    plain_seconds, _, plain_labels = found["enlarged features (plain)"]
    for name, (seconds, peak, labels) in found.items():
        rows.append(
            {
                "way": name,
                "images / s": 1 / seconds,
                "time / plain": seconds / plain_seconds,
                "peak memory (MB)": peak / 1e6,
                "label pixels that differ": float(np.mean(labels != plain_labels)),
            }
        )
    plain = rows[0]["peak memory (MB)"]  # 0 where all fits into what the process has already
    for row in rows:
        row["memory / plain"] = row["peak memory (MB)"] / plain if plain else float("nan")
    return rows


FEATURES: dict[str, Callable[[torch.Tensor, tuple[int, int]], Enlarged | FullSize]] = {
    "enlarged features (plain)": FullSize,
    "few maps": Enlarged,
}


def _labels(
    name: str, height: int, width: int, channels: int, boxes: int, steps: int, repeats: int
) -> tuple[float, int, np.ndarray]:
    """Median seconds, memory above that before, and both labels."""
    generator = torch.Generator().manual_seed(1)
    torch.set_num_threads(1)
    size = (height, width)
    noise = torch.rand(channels, *((n - 1) // 8 + 1 for n in size), generator=generator)
    features = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    weights = torch.randn(CLASSES + 1, channels, generator=generator)
    image = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    step = (width - 20) // boxes
    places = [
        (slice(height // 8, 7 * height // 8), slice(10 + i * step, (i + 1) * step))
        for i in range(boxes)
    ]
    image_boxes = ImageBoxes(size, places, np.arange(1, boxes + 1), ~union(places, size))
    params = LabelParams(DenseCRFParams(3, 3, 4, 55, 3, iterations=steps))
    labels: list[np.ndarray] = []

    def work() -> None:
        made = FEATURES[name](features, size)
        rows = list(range(1, CLASSES + 1))
        labels[:] = semantic_labels(image.numpy(), made, image_boxes, weights, rows, params)

    before = memory()
    forget_peak()
    timing = interleave({name: work}, repeats)[name]
    return float(np.median(timing.wall)), memory("VmHWM") - before, np.stack(labels)
