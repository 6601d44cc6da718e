"""From a teacher and a dataset to proxy masks, labels and score maps: sharded, restartable, observable."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from wsis.data.build import dataset_source
from wsis.data.image_checks import check_image_files
from wsis.data.images import UnreadableImageError
from wsis.data.score_maps import score_map_reader
from wsis.data.source import Image
from wsis.engine.checkpoint import NO_WEIGHTS
from wsis.engine.job import Job, TagJob
from wsis.engine.journal import (
    ImageId,
    JournalWriter,
    failure_line,
    finished_is_kept,
    header_line,
    journal_path,
    locked,
    result_line,
)
from wsis.engine.launch import patient_barrier
from wsis.engine.progress import Progress
from wsis.engine.provenance import differences, provenance
from wsis.engine.proxy_job import ProxyJob
from wsis.engine.workers import RefineTask, refine_all, seed_for_image
from wsis.errors import ConfigError, WsisError, counted
from wsis.modeling.method import method_of
from wsis.modeling.pretrained import weights_sha256
from wsis.modeling.teacher import Maker, TagTeacher
from wsis.parallel import limited_threads, number_of_workers
from wsis.structures import Seed
from wsis.structures.proxy_file import remove_torn

logger = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_AHEAD = 2
"""Images that are decoded while the network is at work on another."""
_NAMED_FAILURES = 20
"""Unreadable images that the log names at the end; the result has all."""


@dataclass(frozen=True)
class GenerationResult:
    """What a generation has made.

    Attributes:
        files: per dataset of ``DATASETS.TRAIN`` the file that ends it: its proxy masks, or the manifest of what has
            none.
        failed: paths of the images that could not be read.
    """

    files: tuple[Path, ...]
    failed: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0, or 3 if an image could not be read."""
        return 3 if self.failed else 0


@dataclass(frozen=True)
class _State:
    """How far a job is: nothing to do, or what earlier runs have left.

    Attributes:
        finished: the file is there.
        done: images that need no more work.
        ends: good bytes of each journal, by file name.
        failed: with ``finished``: images that could not be read, path to reason.
    """

    finished: bool
    done: frozenset[ImageId] = frozenset()
    ends: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def generate_proxy_masks(
    cfg: CfgNode, model: nn.Module, *, resume: bool = False
) -> GenerationResult:
    """Makes ``OUTPUT_DIR/proxy/<dataset>.json`` for every dataset in ``DATASETS.TRAIN`` if the teacher is one of boxes,
    and the semantic labels and score maps that it has, in ``OUTPUT_DIR/pseudo_labels/<dataset>`` and
    ``OUTPUT_DIR/score_maps/<dataset>``.

    All ranks call it together. Each finished image is on disk at once; a run that ends early is
    continued by ``resume``, on any number of ranks. A finished run returns at once.

    Args:
        cfg: of the run; ``MODEL.WEIGHTS`` names the weights that ``model`` has.
        model: a teacher, wrapped or not, with its weights.
        resume: continue what an earlier run with the same settings has left, and try again images
            that could not be read.

    Raises:
        ConfigError, DataError: the config, weights or source are at fault; nothing was written.
        WsisError: there is something else in the folder, another run is at work in it, a file
            cannot be written, or a worker has died; what is finished is kept.
    """
    teacher = model.module if isinstance(model, DistributedDataParallel) else model
    if not isinstance(teacher, Maker):
        raise ConfigError(f"MODEL.META_ARCHITECTURE: {type(teacher).__name__} is not a teacher")
    weights = _on_main(partial(weights_sha256, cfg))
    if weights is None and teacher.state_dict():
        raise ConfigError(NO_WEIGHTS)
    _check_names(cfg, teacher)
    jobs = _jobs(cfg, type(teacher), teacher.label_names, teacher.map_names)
    without_pixel = _on_main(partial(_check_sources, jobs))
    jobs = [
        replace(job, provenance=_made_with(cfg, teacher, job, weights), no_pixel=no_pixel)
        for job, no_pixel in zip(jobs, without_pixel, strict=True)
    ]
    folder = jobs[0].folder
    was_training = teacher.training
    with contextlib.ExitStack() as stack:
        stack.callback(teacher.train, was_training)
        stack.enter_context(limited_threads(cfg.WSIS.NUM_THREADS))
        states = _on_main(partial(_examine, jobs, folder, resume, stack), folder)
        teacher.eval()
        wait_for_all = patient_barrier()
        failed: dict[str, str] = {}
        for job, state in zip(jobs, states, strict=True):
            if not state.finished:
                with finished_is_kept(job.folder):
                    _work(cfg, teacher, job, state)
                wait_for_all()
                state = _on_main(partial(_finish, job), job.path)
            failed.update(state.failed)
            logger.info(f"{job.path}: {job.amount}, complete")
    for reason in list(failed.values())[:_NAMED_FAILURES]:
        logger.error(reason)
    if failed:
        several = len(failed) > 1
        logger.error(
            f"{counted(len(failed), 'image')} could not be read; {jobs[0].lost[several]}; "
            f"mend {'them' if several else 'it'} and run again with --resume"
        )
    return GenerationResult(tuple(job.path for job in jobs), tuple(failed))


def check_generation(cfg: CfgNode) -> None:
    """The checks that :func:`generate_proxy_masks` makes of the config and of the masks to copy, for
    a caller that writes something before it.

    Raises:
        ConfigError, DataError: the first thing that is wrong.
    """
    kind = method_of(cfg)
    if not issubclass(kind, Maker):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: {cfg.MODEL.META_ARCHITECTURE} is not a teacher"
        )
    for job in _jobs(cfg, kind):
        job.check()


def _check_names(cfg: CfgNode, teacher: Maker) -> None:
    """Checks that a teacher makes what it is asked for, and anything at all."""
    name = type(teacher).__name__
    if cfg.PROXY.SEM_SEG and not teacher.label_names:
        raise ConfigError(f"PROXY.SEM_SEG: {name} makes no semantic labels")
    if isinstance(teacher, TagTeacher) and not (teacher.label_names or teacher.map_names):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: {name} makes neither labels nor score maps with this config"
        )


def _jobs(
    cfg: CfgNode,
    kind: type[Maker],
    label_names: tuple[str, ...] = (),
    map_names: tuple[str, ...] = (),
) -> list[Job]:
    """One job per dataset, each still without provenance."""
    names = tuple(dict.fromkeys(cfg.DATASETS.TRAIN))
    if not names:
        raise ConfigError("DATASETS.TRAIN: found nothing, expected the name of a dataset")
    kind.check_supervision(cfg)
    for key, value, least in (
        ("WSIS.NUM_THREADS", cfg.WSIS.NUM_THREADS, 1),
        ("PROXY.NUM_WORKERS", cfg.PROXY.NUM_WORKERS, -1),
    ):
        if value < least:
            raise ConfigError(f"{key}: found {value}, expected at least {least}")
    for name in names:
        if Path(name).name != name or name.startswith("."):
            raise ConfigError(f"DATASETS.TRAIN: {name!r} cannot be the name of a file")
    kwargs: dict[str, Any] = {"keep_true_masks": cfg.PROXY.KEEP_TRUE_MASKS}
    if issubclass(kind, TagTeacher):
        if cfg.PROXY.KEEP_TRUE_MASKS:
            raise ConfigError(
                f"PROXY.KEEP_TRUE_MASKS: found True, but {cfg.MODEL.META_ARCHITECTURE} makes no masks of instances"
            )
        kwargs = {"needs_tags": kind.needs_tags(cfg)}
    return [
        (TagJob if issubclass(kind, TagTeacher) else ProxyJob)(
            name=name,
            source=dataset_source(cfg, name),
            folder=Path(cfg.OUTPUT_DIR) / "proxy",
            class_agnostic=cfg.DATASETS.CLASS_AGNOSTIC,
            readers={each: score_map_reader(cfg, name, each) for each in kind.maps_needed(cfg)},
            label_names=label_names,
            map_names=map_names,
            **kwargs,
        )
        for name in names
    ]


def _made_with(cfg: CfgNode, teacher: Maker, job: Job, weights: str | None) -> dict[str, Any]:
    """See :func:`wsis.engine.provenance.provenance`; with the score maps of earlier stages."""
    maps = {name: reader.made_with for name, reader in job.readers.items()}
    made_with = provenance(cfg, teacher, job.source, weights)
    return made_with | {"score_maps": maps} if maps else made_with


def _check_sources(jobs: list[Job]) -> list[frozenset[int]]:
    """Checks images, and what the teacher needs of each dataset; see :meth:`Job.check`."""
    for job in jobs:
        for folder in job.folders:
            folder.check(job.source)
        check_image_files(job.source, tolerate_unreadable=True)
    return [job.check() for job in jobs]


def _on_main(function: Callable[[], T], path: Path | None = None) -> T:
    """Calls a function on rank 0; every rank gets its result, or raises its error, which names
    ``path`` if it names no other.
    """
    outcome: tuple[Any, WsisError | None] = None, None
    if comm.is_main_process():
        try:
            with finished_is_kept(path):
                outcome = function(), None
        except WsisError as error:
            outcome = None, error
    result, failure = comm.all_gather(outcome)[0]
    if failure is not None:
        raise failure
    return result


def _examine(
    jobs: list[Job], folder: Path, resume: bool, stack: contextlib.ExitStack
) -> list[_State]:
    """Takes the folder's lock, and looks at what earlier runs have left there."""
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(locked(folder))
    states = [_state_of(job, resume) for job in jobs]
    for job, state in zip(jobs, states, strict=True):
        if not state.finished:
            job.path.unlink(missing_ok=True)  # it lacks what will be tried again
            remove_torn(job.path)
            for each in job.folders:
                each.remove_torn(job.source)
            if job.warning:
                logger.warning(job.warning)
    return states


def _state_of(job: Job, resume: bool) -> _State:
    index = job.read_journals()
    started = index.provenance is not None
    if job.path.exists():
        changed = differences(job.read_provenance(), job.provenance)
        if changed:
            raise WsisError(
                f"{job.path} was made otherwise: {'; '.join(changed)}; set another OUTPUT_DIR, or "
                "delete it and its journals to start anew"
            )
        failed = job.named(index.failed if started else job.failed_before())
        complete = not started or not job.missing(index)
        if complete and not (resume and failed):
            return _State(finished=True, failed=failed)
        if not started:
            raise WsisError(
                f"{job.path}: its journals are gone, so its unreadable images cannot be tried "
                "again; delete it to start anew"
            )
    if started and not resume:
        raise WsisError(
            f"{job.folder}: an unfinished run has left journals of {job.name}; continue it with "
            f"--resume, set another OUTPUT_DIR, or delete {job.name}.rank*.jsonl to start anew"
        )
    return _State(finished=False, done=frozenset(index.done), ends=index.ends)


def _work(cfg: CfgNode, teacher: Maker, job: Job, state: _State) -> None:
    """Does this rank's share of the images that are not done."""
    rank, ranks = comm.get_rank(), comm.get_world_size()
    images = [image for image in job.source.images if image["id"] not in state.done][rank::ranks]
    if not images:
        return
    path = journal_path(job.folder, job.name, rank)
    workers = number_of_workers(cfg.PROXY.NUM_WORKERS, comm.get_local_size())
    task = RefineTask(teacher.refiner(), cfg.INPUT.HIGH_BIT_DEPTH, cfg.SEED, job.folders)
    label = job.name if ranks == 1 else f"{job.name}, rank 0 of {ranks}"
    with (
        JournalWriter(path, header_line(job.provenance), state.ends.get(path.name, 0)) as writer,
        contextlib.closing(_seeds(cfg, teacher, job, images)) as seeds,
        contextlib.closing(
            refine_all(seeds, task, min(workers, len(images)), cfg.WSIS.NUM_THREADS)
        ) as batches,
        Progress(label, len(images), "images", shown=rank == 0) as progress,
    ):
        for lines in batches:
            writer.append(*lines)
            progress.advance(len(lines))


def _seeds(
    cfg: CfgNode, teacher: Maker, job: Job, images: Iterable[Image]
) -> Generator[Seed | bytes, None, None]:
    """The network's part, image by image; the journal's line of an image that needs no more."""
    mapper = teacher.generation_mapper(cfg)

    def load(image: Image) -> dict[str, Any] | bytes:
        record = job.record(image)
        if not job.is_asked(record):
            job.write_nothing(record["file_name"], image)
            return result_line(image["id"], [])
        try:
            return job.inputs(record, mapper)
        except UnreadableImageError as error:
            return failure_line(image["id"], str(error))

    for inputs in _ahead(load, images):
        if isinstance(inputs, bytes):
            yield inputs
            continue
        image_id = inputs["image_id"]
        seed_for_image(cfg.SEED, image_id)
        with torch.no_grad():
            (seed,) = teacher.propose([inputs])
        made, asked = list(seed.annotation_ids), job.asked_ids(image_id)
        if seed.image_id != image_id or made != asked:
            raise WsisError(
                f"image {image_id!r}: {type(teacher).__name__} returned a seed of image "
                f"{seed.image_id!r}, annotations {made}, expected {asked}"
            )
        if job.label_names or teacher.needs_void:
            seed.void = job.void(image_id)
        yield seed


def _ahead(function: Callable[[Image], T], images: Iterable[Image]) -> Iterator[T]:
    """``function(image)`` of each image, computed a little ahead in another thread."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: deque[Future[T]] = deque()
        for image in images:
            waiting.append(pool.submit(function, image))
            if len(waiting) > _LOOK_AHEAD:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()


def _finish(job: Job) -> _State:
    index = job.read_journals(comm.get_world_size())
    job.write(index)
    return _State(finished=True, failed=job.named(index.failed))
