"""Endless batches of box crops and salient images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsis.config.params import read
from wsis.data.fork import before_workers
from wsis.errors import WsisError
from wsis.methods.boxcaseg.config import BoxCasegParams
from wsis.methods.boxcaseg.sampler import EpochSampler, overlapping
from wsis.methods.boxcaseg.samples import (
    BoxImage,
    SalientImage,
    SampleParams,
    box_images,
    box_samples,
    salient_images,
    sample_params,
    whole_sample,
)

Batch = list[dict[str, Any]]

TOGETHER = 32
"""Most samples in a task. What one reading of the image costs each of so many is little, and what workers have made
lies in shared memory, which containers have little of."""


class Task(NamedTuple):
    """Samples of one image, made together.

    Attributes:
        samples: their numbers, see :mod:`wsis.methods.boxcaseg.sampler`; a salient image stands alone.
        seeds: of each, what decides its random numbers.
        places: of each, in the order in which this process's batches take them, from 0.
    """

    samples: list[int]
    seeds: list[tuple[int, ...]]
    places: list[int]


class Made(NamedTuple):
    """A task that is done: images (n, 3, S, S) float32, labels (n, 1, S, S) uint8, or why there are none."""

    places: list[int]
    images: Tensor
    labels: Tensor
    salient: bool
    error: WsisError | None = None


class JointSamples(Dataset[Made]):
    """Does a :class:`Task`.

    Args:
        boxed: images with boxes; the boxes of all of them in turn are samples 0, 1, ...
        salient: the samples that follow.
        params: of the samples.
    """

    def __init__(
        self, boxed: Sequence[BoxImage], salient: Sequence[SalientImage], params: SampleParams
    ) -> None:
        self.boxed, self.salient, self.params = boxed, salient, params
        counts = [len(image.boxes) for image in boxed]
        self.images = np.repeat(np.arange(len(boxed)), counts)
        """(B,) number of each box's image."""
        self.first = np.cumsum([0, *counts])
        """(images + 1,) number of each image's first box."""

    def __getitem__(self, task: Task) -> Made:
        rngs = [np.random.default_rng(seed) for seed in task.seeds]
        first = task.samples[0] - len(self.images)
        try:
            if first >= 0:
                made = whole_sample(self.salient[first], rngs[0], self.params)
            else:
                number = self.images[task.samples[0]]
                chosen = [sample - int(self.first[number]) for sample in task.samples]
                made = box_samples(self.boxed[number], chosen, rngs, self.params)
        except WsisError as error:  # a worker's stack would hide its one line
            return Made(task.places, torch.empty(0), torch.empty(0), False, error)
        images, labels = torch.from_numpy(made.images), torch.from_numpy(made.labels)
        return Made(task.places, images, labels, made.salient)


class JointLoader:
    """Endless batches of one process, the same for any number of workers.

    An iteration starts with the batch of the training's current iteration, so that a resumed training goes on where it
    was.

    Args:
        samples: what the batches are made of.
        sampler: which ones.
        rank: of this process.
        num_workers: processes that make samples; 0: this one.
    """

    def __init__(
        self, samples: JointSamples, sampler: EpochSampler, rank: int = 0, num_workers: int = 0
    ) -> None:
        self.samples, self.sampler = samples, sampler
        self.rank, self.num_workers = rank, num_workers

    def __iter__(self) -> Iterator[Batch]:
        """Yields lists of ``image`` (3, S, S) float32, normalised, ``label`` (1, S, S) float32 in {0, 1, IGNORE},
        and ``salient``.

        Raises:
            DataError: an image cannot be read.
        """
        size = self.sampler.batch_size // self.sampler.processes
        if self.num_workers:
            before_workers()
        made = iter(
            DataLoader(
                self.samples,
                batch_size=None,
                sampler=self.tasks(_iterations_done()),
                num_workers=self.num_workers,
                collate_fn=_as_it_is,
            )
        )
        waiting: dict[int, dict[str, Any]] = {}
        place = 0
        while True:
            while any(k not in waiting for k in range(place, place + size)):
                waiting.update(self._unpack(next(made)))
            yield [waiting.pop(k) for k in range(place, place + size)]
            place += size

    def _unpack(self, made: Made) -> dict[int, dict[str, Any]]:
        """Place to sample. Those of a worker are copied: each piece of shared memory holds an open file."""
        if made.error is not None:
            raise made.error
        return {
            place: {
                "image": image.clone() if self.num_workers else image,
                "label": label.float(),
                "salient": made.salient,
            }
            for place, image, label in zip(made.places, made.images, made.labels, strict=True)
        }

    def tasks(self, start: int = 0) -> Iterator[Task]:
        """What is to be done, in the order in which it is needed first.

        Args:
            start: number of the first batch.
        """
        sampler = self.sampler
        place = 0
        for epoch, first, batches in sampler.epochs(start):
            everyone = (first + np.arange(len(batches)))[:, None] * sampler.batch_size + np.arange(
                sampler.batch_size
            )
            mine = slice(self.rank, None, sampler.processes)
            numbers, samples = everyone[:, mine].ravel().tolist(), batches[:, mine].ravel().tolist()
            for members in self._together(samples):
                yield Task(
                    [samples[k] for k in members],
                    [(sampler.seed, epoch, numbers[k]) for k in members],
                    [place + k for k in members],
                )
            place += len(samples)

    def _together(self, samples: list[int]) -> Iterator[list[int]]:
        """Which samples of an epoch are made together: rising positions in the list."""
        of_image: dict[int, list[int]] = {}
        for k in reversed(range(len(samples))):
            if samples[k] < len(self.samples.images):
                of_image.setdefault(int(self.samples.images[samples[k]]), []).append(k)
        for k, sample in enumerate(samples):
            if sample >= len(self.samples.images):
                yield [k]
                continue
            left = of_image[int(self.samples.images[sample])]
            if left and left[-1] == k:
                members: list[int] = []
                while left and left[-1] < k + self.sampler.window and len(members) < TOGETHER:
                    members.append(left.pop())
                yield members


def build_joint_loader(cfg: CfgNode) -> Iterator[Batch]:
    """The batches of this process, see :class:`JointLoader`; ``SOLVER.IMS_PER_BATCH`` samples over all processes.

    What is drawn follows from ``SEED`` (from a number that the processes agree on if it is negative) and the iteration.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.

    Raises:
        ConfigError, DataError: a key or a file is wrong, see :func:`wsis.methods.boxcaseg.samples.box_images`,
            :func:`wsis.methods.boxcaseg.samples.salient_images`,
            :func:`wsis.methods.boxcaseg.samples.sample_params` and
            :class:`wsis.methods.boxcaseg.sampler.EpochSampler`.
    """
    params = read(cfg, BoxCasegParams)
    samples = JointSamples(box_images(cfg), salient_images(cfg), sample_params(cfg))
    overlapped = None
    if params.overlap_drop:
        each = [overlapping(image.boxes, params.overlap_iou) for image in samples.boxed]
        overlapped = np.concatenate(each)
    sampler = EpochSampler(
        images=samples.images,
        num_salient=len(samples.salient),
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        weak_share=params.weak_share,
        overlapped=overlapped,
        drop=params.overlap_drop,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        processes=comm.get_world_size(),
    )
    return iter(JointLoader(samples, sampler, comm.get_rank(), cfg.DATALOADER.NUM_WORKERS))


def _as_it_is(made: Any) -> Any:
    """Instead of PyTorch's search for arrays in it."""
    return made


def _iterations_done() -> int:
    """Of the training that runs, 0 outside of one."""
    try:
        return get_event_storage().iter
    except AssertionError:
        return 0
