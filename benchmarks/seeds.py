"""Affinities of pairs, the random walk and the sweep over background constants, against the plain ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import (
    Row,
    forget_peak,
    in_fresh_process,
    interleave,
    memory,
    timing_rows,
)
from wsis.evaluation.seed_sweep import THRESHOLDS, SeedSweep, sweep_scores
from wsis.layers.affinity import at_offset, feature_affinities, pair_offsets
from wsis.layers.random_walk import pairs_of_edges, random_walk
from wsis.layers.seg_metrics import confusion_matrix
from wsis.structures import ScoreMaps
from wsis.structures.score_maps import read_score_maps, write_score_maps

MIB = 2**20
Ways = dict[str, Callable[..., Tensor]]


def gathered_affinities(features: Tensor, radius: int) -> Tensor:
    """:func:`wsis.layers.affinity.feature_affinities` of both features of all pairs, gathered by their indices."""
    height, width = features.shape[2:]
    cells = torch.arange(height * width).view(height, width)
    here = at_offset(cells, (0, 0), radius)
    there = torch.stack([at_offset(cells, offset, radius) for offset in pair_offsets(radius)])
    flat = features.flatten(2)
    pairs = flat[:, :, there.flatten()].unflatten(2, there.shape)
    difference = (flat[:, :, here.flatten()].unflatten(2, here.shape)[:, :, None] - pairs).abs()
    return (-difference.mean(dim=1)).exp()


def dense_walk(scores: Tensor, affinity: Tensor, radius: int, beta: float, steps: int) -> Tensor:
    """:func:`wsis.layers.random_walk.random_walk` by squaring the matrix; ``steps`` is a power of 2."""
    height, width = scores.shape[1:]
    cells = torch.arange(height * width).view(height, width)
    matrix = torch.eye(height * width)
    for values, (dy, dx) in zip(affinity, pair_offsets(radius), strict=True):
        rows, columns = slice(height - dy), slice(max(0, -dx), width - max(0, dx))
        shifted = slice(dy, height), slice(max(0, dx), width + min(0, dx))
        here, there = cells[rows, columns].flatten(), cells[shifted].flatten()
        matrix[here, there] = matrix[there, here] = values[rows, columns].flatten()
    matrix.pow_(beta)
    matrix /= matrix.sum(dim=0)
    for _ in range(steps.bit_length() - 1):
        matrix = matrix @ matrix
    return (scores.flatten(1) @ matrix).view_as(scores)


WALKS: Ways = {"squared matrix (plain)": dense_walk, "stencil, step by step": random_walk}
PAIRS: Ways = {"gathered pairs (plain)": gathered_affinities, "shifted slices": feature_affinities}


def benchmark_walk(
    rows: int = 94, columns: int = 125, classes: int = 2, steps: int = 256, repeats: int = 1
) -> list[Row]:
    """A random walk on the edges of one image, step by step against squarings of its matrix.

    Each way runs in a fresh process, whose memory is its own; as they do not take turns, CPU seconds are compared.
    ``difference`` is the largest from the plain way, relative to the largest score.

    Args:
        rows, columns: of the grid; 94 x 125 is an image of PASCAL VOC at stride 4.
        classes: number of maps.
        steps: of the walk, a power of 2.
        repeats: rounds that count, after one to warm up; 1 has none before it.
    """
    arguments = (rows, columns, classes, steps, repeats)
    return _compare({name: in_fresh_process(_walk, name, *arguments) for name in WALKS})


def benchmark_pairs(
    images: int = 2, channels: int = 448, size: int = 56, repeats: int = 3
) -> list[Row]:
    """AffinityNet's affinities of all pairs, forward and backward, by shifts against gathered features.

    See :func:`benchmark_walk`; what is compared are the gradients.

    Args:
        images: number of images.
        channels: of the features.
        size: of the grid's side; 56 is that of a crop of 448 pixels.
        repeats: rounds that count, after one to warm up; 1 has none before it.
    """
    arguments = (images, channels, size, repeats)
    return _compare({name: in_fresh_process(_pairs, name, *arguments) for name in PAIRS})


def benchmark_seed_sweep(
    images: int = 8, height: int = 375, width: int = 500, classes: int = 2, repeats: int = 3
) -> list[Row]:
    """mIoU for 25 background constants in one pass against a label map for each of them.

    Args:
        images: number of images, whose maps and labels are in memory.
        height, width: of an image in pixels.
        classes: of an image.
        repeats: rounds that count.
    """
    rng = np.random.default_rng(1)
    size = images, classes, height, width
    maps = torch.from_numpy(rng.random(size, dtype=np.float32))
    targets = rng.integers(0, classes + 1, (images, height, width)).astype(np.uint8)
    labels, number = range(1, classes + 1), 21
    found: dict[str, np.ndarray] = {}

    def plain() -> None:
        confusions = np.zeros((len(THRESHOLDS), number, number), np.int64)
        for scores, target in zip(maps.numpy(), targets, strict=True):
            for confusion, threshold in zip(confusions, THRESHOLDS, strict=True):
                label = np.where(scores.max(axis=0) > threshold, scores.argmax(axis=0) + 1, 0)
                confusion += confusion_matrix(label, target, number)
        found["label maps (plain)"] = sweep_scores(confusions, THRESHOLDS).mean_iou

    def one_pass() -> None:
        sweep = SeedSweep(number)
        for scores, target in zip(maps, targets, strict=True):
            sweep.add(scores, labels, target)
        found["one pass"] = sweep.scores().mean_iou

    ways = {"label maps (plain)": plain, "one pass": one_pass}
    rows = timing_rows(interleave(ways, repeats), "label maps (plain)")
    for row in rows:
        row["difference"] = float(np.abs(found[row["way"]] - found["label maps (plain)"]).max())
    return rows


def benchmark_score_maps(
    images: int = 8, height: int = 375, width: int = 500, classes: int = 2, repeats: int = 3
) -> list[Row]:
    """Score maps on disk, at full resolution and at stride 4, against the float32 array of all pixels.

    The maps are noise at stride 16, enlarged, without what is negative. ``error`` is the largest of a map's values that
    are read again, relative to the largest value.

    Args:
        images: number of images.
        height, width: of an image in pixels.
        classes: of an image.
        repeats: rounds that count.
    """
    generator = torch.Generator().manual_seed(1)
    shape = images, classes, -(-height // 16), -(-width // 16)
    noise = torch.randn(shape, generator=generator)
    labels = np.arange(1, classes + 1)
    plain = "float32 .npy (plain)"
    strides = {plain: 1, "score maps, stride 1": 1, "score maps, stride 4": 4}
    found: dict[str, tuple[int, float]] = {}

    def write(way: str) -> None:
        stride, size, error = strides[way], 0, 0.0
        grid = (-(-height // stride), -(-width // stride))
        for maps in functional.interpolate(noise, grid, mode="bilinear").relu().numpy():
            path = Path(folder) / ("maps.npy" if way == plain else "maps.npz")
            if way == plain:
                np.save(path, maps)
                back = np.load(path)
            else:
                write_score_maps(path, ScoreMaps(labels, maps, height, width, stride), "a", "0")
                back = read_score_maps(path).scores
            size += path.stat().st_size
            error = max(error, float(np.abs(back - maps).max() / maps.max()))
        found[way] = size, error

    with TemporaryDirectory() as folder:
        rows = timing_rows(
            interleave({way: partial(write, way) for way in strides}, repeats), plain
        )
    for row in rows:
        size, row["error"] = found[row["way"]]
        row["bytes / pixel and class"] = size / (images * classes * height * width)
    return rows


def _compare(found: dict[str, tuple[float, int, np.ndarray]]) -> list[Row]:
    """The rows of ways of which the first is the plain one."""
    seconds, peak, expected = next(iter(found.values()))
    return [
        {
            "way": name,
            "CPU seconds": own,
            "time / plain": own / seconds,
            "peak memory (MiB)": own_peak / MIB,
            "plain memory / memory": peak / max(own_peak, 1),
            "difference": float(np.abs(values - expected).max() / np.abs(expected).max()),
        }
        for name, (own, own_peak, values) in found.items()
    ]


def _walk(
    name: str, rows: int, columns: int, classes: int, steps: int, repeats: int
) -> tuple[float, int, np.ndarray]:
    generator = torch.Generator().manual_seed(1)
    edge = torch.rand(rows, columns, generator=generator).pow(3)
    scores = torch.rand(classes, rows, columns, generator=generator)
    affinity = pairs_of_edges(edge, 5)
    return _measured(lambda: WALKS[name](scores, affinity, 5, 10.0, steps), repeats)


def _pairs(
    name: str, images: int, channels: int, size: int, repeats: int
) -> tuple[float, int, np.ndarray]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(images, channels, size, size, generator=generator).requires_grad_()

    def work() -> Tensor:
        (gradient,) = torch.autograd.grad(PAIRS[name](features, 5).log().sum(), features)
        return gradient

    return _measured(work, repeats)


def _measured(work: Callable[[], Tensor], repeats: int) -> tuple[float, int, np.ndarray]:
    """Median CPU seconds, memory above that before, and what the work has made."""
    torch.set_num_threads(1)
    made: list[Tensor] = []

    def keep() -> None:
        made[:] = [work()]

    before = memory()
    forget_peak()
    timing = interleave({"": keep}, repeats, warm_up=int(repeats > 1))[""]
    return float(np.median(timing.cpu)), memory("VmHWM") - before, made[0].numpy()
