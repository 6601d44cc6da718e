"""BANA's pooling of an image at a time, and its pseudo labels on few maps, against the plain ways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks.timing import (
    Row,
    forget_peak,
    in_fresh_process,
    interleave,
    memory,
    timing_rows,
)
from wsis.layers.bilinear import sample
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.enlarged import Enlarged
from wsis.methods.bana.lattice import Lattice, box_lattice
from wsis.methods.bana.pooling import EPS, background_aware_pooling, query_weights
from wsis.methods.bana.pseudo_labels import ImageBoxes, LabelParams, semantic_labels, union

CLASSES = 20


class FullSize:
    """Features that really are enlarged: :class:`wsis.layers.enlarged.Enlarged` in the plain way.

    Args:
        features: (C, h, w) float32.
        size: height and width of the enlarged map.
    """

    def __init__(self, features: torch.Tensor, size: tuple[int, int]) -> None:
        self.size = size
        self.features = functional.interpolate(
            features[None], size=size, mode="bilinear", align_corners=True
        )[0]

    def products(self, vectors: torch.Tensor) -> torch.Tensor:
        """v . f(p): (M, C) to (M, H, W)."""
        return torch.einsum("mc,chw->mhw", vectors, self.features)

    def cosines(self, vectors: torch.Tensor) -> torch.Tensor:
        """cos(v, f(p)): (M, C) to (M, H, W)."""
        directions = functional.normalize(self.features, dim=0, eps=EPS)
        return torch.einsum(
            "mc,chw->mhw", functional.normalize(vectors, dim=1, eps=EPS), directions
        )

    def mean(self, mask: torch.Tensor) -> torch.Tensor:
        """Mean of f over a (H, W) bool mask, (C,)."""
        return (self.features * mask).sum(dim=(1, 2)) / (mask.sum() + EPS)


def pool_by_grid_sample(
    features: torch.Tensor, mask: torch.Tensor, lattice: Lattice, grid: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`wsis.methods.bana.pooling.background_aware_pooling` for all images at once, padded to as many points.

    Args:
        features: (N, C, h, w).
        mask: (N, H, W) float, 1 = background, more than the least share of it.
        lattice: of the boxes, within the map.
        grid: G of the queries.

    Returns:
        (K, windows, C) pooled features and (N, J, C) queries.
    """
    images, size = len(features), features.shape[2:]
    parts = list(lattice.of_images(images))
    shape = [max(values) for values in zip(*(windows.shape for _, windows in parts), strict=True)]
    windows = torch.zeros(images, *shape, dtype=torch.bool)
    places = features.new_zeros(images, 1, shape[2], 2)
    pixels = torch.cartesian_prod(*(torch.linspace(-1, 1, n) for n in size))
    for number, (points, own) in enumerate(parts):
        windows[number, : len(own), :, : own.shape[2]] = own
        places[number, 0, : own.shape[2]] = sample(pixels, points).flip(1)
    small = functional.interpolate(mask[:, None], size=size, mode="nearest")[:, 0]
    weights, counts = query_weights(small, grid)
    queries = torch.bmm(weights, features.flatten(2).mT)
    samples = functional.grid_sample(features, places, align_corners=True)[:, :, 0]
    cosines = torch.bmm(functional.normalize(queries, dim=2, eps=EPS), samples)
    cosines = functional.relu(cosines / samples.norm(dim=1, keepdim=True).clamp(min=EPS))
    valid = (counts > 0)[:, :, None]
    attention = 1 - (cosines * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
    masses = windows * attention[:, None, None]
    masses = (masses / (masses.sum(dim=3, keepdim=True) + EPS)).flatten(1, 2)
    means = torch.bmm(masses, samples.mT).unflatten(1, windows.shape[1:3])
    return means[windows.flatten(2).any(dim=2)], queries


def benchmark_bana_pooling(
    images: int = 20, channels: int = 1024, size: int = 41, repeats: int = 5
) -> list[Row]:
    """BAP, forward and backward, image by image against a `grid_sample` of all images at once.

    Each image has 2 to 6 boxes with sides of 20 to 80 % of the crop's. ``difference`` is the largest between the
    gradients of both, relative to the largest gradient.

    Args:
        images: number of images.
        channels: of the features.
        size: of the features' side; 41 is that of a crop of 321 pixels.
        repeats: rounds that count.
    """
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(images, channels, size, size, generator=generator).requires_grad_()
    mask = torch.ones(images, 8 * size, 8 * size)
    mask[:, size : 5 * size, size : 5 * size] = 0
    numbers = torch.randint(2, 7, (images,), generator=generator)
    image = torch.arange(images).repeat_interleave(numbers)
    side = 0.4 + 1.2 * torch.rand(len(image), 2, generator=generator)  # the crop's is 2
    near = (2 - side) * torch.rand(len(image), 2, generator=generator) - 1
    corners = torch.cat([near, near + side], dim=1)
    gradients: dict[str, torch.Tensor] = {}

    def backward(name: str, windows: torch.Tensor, queries: torch.Tensor) -> None:
        loss = windows.square().sum() + queries.square().sum()
        (gradients[name],) = torch.autograd.grad(loss, features)

    def plain() -> None:
        lattice = box_lattice(corners, image, (size, size))
        backward("grid_sample (plain)", *pool_by_grid_sample(features, mask, lattice, 4))

    def by_image() -> None:
        lattice = box_lattice(corners, image, (size, size))
        pooled = background_aware_pooling(features, mask, lattice, 4)
        backward("image by image", pooled.windows, pooled.queries)

    ways = {"grid_sample (plain)": plain, "image by image": by_image}
    rows = timing_rows(interleave(ways, repeats), "grid_sample (plain)")
    expected = gradients["grid_sample (plain)"]
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

    Each way runs in a fresh process, whose memory is its own; as they do not take turns, CPU seconds are compared.
    ``label pixels that differ`` is the share of pixels of both labels that are not as in the plain way.

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
    plain_seconds, plain_peak, plain_labels = found["enlarged features (plain)"]
    for name, (seconds, peak, labels) in found.items():
        rows.append(
            {
                "way": name,
                "CPU seconds": seconds,
                "time / plain": seconds / plain_seconds,
                "peak memory (MB)": peak / 1e6,
                # 0 where all fits into what the process has already
                "memory / plain": peak / plain_peak if plain_peak else float("nan"),
                "label pixels that differ": float(np.mean(labels != plain_labels)),
            }
        )
    return rows


FEATURES: dict[str, Callable[[torch.Tensor, tuple[int, int]], Enlarged | FullSize]] = {
    "enlarged features (plain)": FullSize,
    "few maps": Enlarged,
}


def _labels(
    name: str, height: int, width: int, channels: int, boxes: int, steps: int, repeats: int
) -> tuple[float, int, np.ndarray]:
    """Median CPU seconds, memory above that before, and both labels."""
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
    return float(np.median(timing.cpu)), memory("VmHWM") - before, np.stack(labels)
