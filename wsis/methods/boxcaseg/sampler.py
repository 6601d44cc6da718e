"""Which box crops and salient images an epoch has, and in which batches.

A sample is a number: below the number of boxes the crop of that box, above it a salient image. The boxes of an image
come within a window of :data:`WINDOW` samples of a process, so that one decoding of the image serves them all, and in
random order in it; images come in random order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wsis.errors import ConfigError, counted
from wsis.layers.iou import box_iou

WINDOW = 256
"""Box crops of one process among which those of an image lie. Many times a batch, so that batches are mixed as by a
shuffle of everything but for a pair from the same image now and then; and a limit of what a process keeps in memory."""


def overlapping(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """Which boxes of an image overlap another one of it.

    Args:
        boxes: (N, 4) XYXY; corners are truncated to whole pixels.
        threshold: of the IoU, exceeded by an overlap.

    Returns:
        (N,) bool.
    """
    corners = np.trunc(boxes)
    iou = box_iou(corners[:, None], corners[None])
    np.fill_diagonal(iou, 0.0)
    return np.asarray((iou > threshold).any(axis=1))


@dataclass(frozen=True)
class EpochSampler:
    """The batches of each epoch, over all processes.

    Attributes:
        images: (B,) number of each box's image.
        num_salient: S, number of salient images.
        batch_size: of all processes together.
        weak_share: share of box crops in each batch, rounded down to whole samples: an epoch is one pass over the
            salient images, and box crops start again where they do not suffice. 0, or no salient image: everything is
            shuffled together, an epoch is one pass over everything.
        overlapped: (B,) bool, boxes that may be left out of an epoch,
        drop: with this probability.
        seed: with the number of an epoch it decides all of it.
        processes: P, among which each batch is dealt: process r gets ``batch[r::P]``.
    """

    images: np.ndarray
    num_salient: int
    batch_size: int
    weak_share: float = 0.0
    overlapped: np.ndarray | None = None
    drop: float = 0.0
    seed: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ConfigError: a batch that cannot be dealt, or that has no room for a box crop.
        """
        if self.batch_size < 1 or self.batch_size % self.processes:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH: found {self.batch_size}, expected a multiple of the "
                f"{counted(self.processes, 'process', 'processes')}"
            )
        if self.fixed and not self.weak_per_batch:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH: found {self.batch_size}, expected more: with "
                f"MODEL.BOXCASEG.WEAK_SHARE {self.weak_share} a batch has no box crop"
            )

    @property
    def fixed(self) -> bool:
        """Whether each batch has the same number of salient images."""
        return self.weak_share > 0 and self.num_salient > 0

    @property
    def weak_per_batch(self) -> int:
        """Box crops in each batch, where the share is fixed."""
        return int(round(self.batch_size * self.weak_share, 6))

    @property
    def _fixed_batches(self) -> int:
        """Batches of an epoch, where the share is fixed."""
        return max(self.num_salient // (self.batch_size - self.weak_per_batch), 1)

    def epoch(self, number: int) -> np.ndarray:
        """(T, batch_size) int64 samples, T at least 1; what does not fill a batch is left out."""
        rng = np.random.default_rng((self.seed, number))
        boxes = np.arange(len(self.images))
        if self.drop and self.overlapped is not None:
            kept = ~self.overlapped | (rng.random(len(boxes)) >= self.drop)
            boxes = boxes[kept] if kept.any() else boxes
        if self.fixed:
            return self._fixed_epoch(boxes, rng)
        salient = np.arange(self.num_salient)
        samples = np.concatenate([boxes, len(self.images) + salient])
        groups = np.concatenate([self.images[boxes], self.images.max(initial=-1) + 1 + salient])
        order = samples[grouped_order(groups, rng, self.processes)]
        batches = max(len(order) // self.batch_size, 1)
        return np.resize(order, (batches, self.batch_size))

    def _fixed_epoch(self, boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Box crops are dealt to the processes in turn, salient images fill up each process's part."""
        weak, processes = self.weak_per_batch, self.processes
        salient, batches = self.batch_size - weak, self._fixed_batches
        passes = -(-batches * weak // len(boxes))
        order = np.concatenate(
            [boxes[grouped_order(self.images[boxes], rng, processes)] for _ in range(passes)]
        )
        whole = len(self.images) + np.resize(rng.permutation(self.num_salient), (batches, salient))
        out = np.empty((batches, self.batch_size), dtype=np.int64)
        for t in range(batches):
            places = np.arange(t * weak, (t + 1) * weak)
            owners = places % processes
            room = self.batch_size // processes - np.bincount(owners, minlength=processes)
            owners = np.concatenate([owners, np.repeat(np.arange(processes), room)])
            shuffled = np.lexsort((rng.random(self.batch_size), owners))
            samples = np.concatenate([order[places], whole[t]])[shuffled]
            out[t] = samples.reshape(processes, -1).T.ravel()
        return out

    def epochs(self, start: int = 0) -> Iterator[tuple[int, int, np.ndarray]]:
        """All batches without end, the first ``start`` left out.

        Yields:
            Number of an epoch, number of its first batch that is not left out, (T, batch_size) samples from there on.
        """
        done = start // self._fixed_batches if self.fixed else 0  # not drawn: COCO's take a second
        start -= done * self._fixed_batches if done else 0
        for number in itertools.count(done):
            batches = self.epoch(number)
            if start < len(batches):
                yield number, start, batches[start:]
            start = max(start - len(batches), 0)

    @property
    def window(self) -> int:
        """Samples of a process's batches among which those of an image lie."""
        return -(-WINDOW * self.batch_size // self.weak_per_batch) if self.fixed else WINDOW


def grouped_order(groups: np.ndarray, rng: np.random.Generator, processes: int = 1) -> np.ndarray:
    """A random order in which the members of a group come close together.

    Groups come in random order. Of every ``processes * WINDOW`` places process r has each P-th one from r on; it takes
    a run of the groups and shuffles it.

    Args:
        groups: (N,) integers at least 0, the group of each element.
        rng: of the order.
        processes: P.

    Returns:
        (N,) int64, a permutation.
    """
    keys = rng.random(groups.max(initial=-1) + 1)
    run = np.argsort(keys[groups], kind="stable")
    out = np.empty_like(run)
    for start in range(0, len(run), processes * WINDOW):
        stop = min(start + processes * WINDOW, len(run))
        taken = start
        for r in range(processes):
            places = slice(start + r, stop, processes)
            number = len(out[places])
            out[places] = rng.permutation(run[taken : taken + number])
            taken += number
    return out
