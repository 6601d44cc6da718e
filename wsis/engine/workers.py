"""Refinement in worker processes, with a fixed number of threads each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import torch

from wsis.data.images import UnreadableImageError, read_image
from wsis.engine.journal import failure_line, mask_records, result_line
from wsis.engine.label_folder import LabelFolder
from wsis.errors import WsisError
from wsis.modeling.teacher import Refiner
from wsis.structures import Seed

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PER_WORKER = 2
"""Images in flight per worker: one at work, one waiting."""


def number_of_workers(wanted: int, local_processes: int) -> int:
    """Worker processes of one rank.

    Args:
        wanted: ``PROXY.NUM_WORKERS``; -1 = one per core, shared out among the ranks of the machine.
        local_processes: ranks on this machine.
    """
    if wanted >= 0:
        return wanted
    return max(1, len(os.sched_getaffinity(0)) // local_processes)


def seed_for_image(base: int, image_id: int | str) -> None:
    """Seeds every generator for one image, so that its result does not depend on those before it.

    Args:
        base: ``SEED``.
        image_id: of the image.
    """
    number = zlib.crc32(f"{base}:{image_id!r}".encode())
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # the generator that Detectron2 and others draw from
    torch.manual_seed(number)
    cv2.setRNGSeed(number & 0x7FFFFFFF)


@contextlib.contextmanager
def limited_threads(number: int) -> Iterator[None]:
    """PyTorch and OpenCV use ``number`` threads inside the block, and so do processes started in it."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    variables = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(number)))
    _set_threads(number, number)
    try:
        yield
    finally:
        _set_threads(*before)
        for name, value in variables.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _set_threads(torch_threads: int, opencv_threads: int) -> None:
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(opencv_threads)


class RefineTask:
    """Refines one image: reads it, seeds the generators, calls the refiner.

    Args:
        refine: what :meth:`wsis.modeling.teacher.Teacher.refiner` returned.
        high_bit_depth: ``INPUT.HIGH_BIT_DEPTH``.
        base_seed: ``SEED``.
        labels: where semantic labels go, on disk before the line is returned.
    """

    def __init__(
        self, refine: Refiner, high_bit_depth: str, base_seed: int, labels: LabelFolder
    ) -> None:
        self.refine = refine
        self.high_bit_depth = high_bit_depth
        self.base_seed = base_seed
        self.labels = labels

    def __call__(self, seed: Seed) -> bytes:
        """The journal's line of the image.

        Raises:
            WsisError: the teacher returned something else than it was asked for.
        """
        try:
            image = read_image(seed.file_name, seed.height, seed.width, self.high_bit_depth)
        except UnreadableImageError as error:
            return failure_line(seed.image_id, str(error))
        seed_for_image(self.base_seed, seed.image_id)
        masks = self.refine(seed, image)
        if tuple(masks.annotation_ids) != tuple(seed.annotation_ids):
            raise WsisError(
                f"image {seed.image_id!r}: the teacher made masks of annotations "
                f"{list(masks.annotation_ids)}, expected {list(seed.annotation_ids)}"
            )
        self.labels.write(seed.file_name, masks.sem_seg, seed.void)
        return result_line(seed.image_id, mask_records(masks))


_task: RefineTask | None = None  # of a worker process


def _start_worker(task: RefineTask, num_threads: int) -> None:
    global _task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _set_threads(num_threads, num_threads)
    _task = task


def _end_with_parent() -> None:
    """A worker whose main process was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_task(seed: Seed) -> bytes:
    if _task is None:
        raise RuntimeError("this is not a worker process")
    return _task(seed)


def refine_all(
    seeds: Iterable[Seed | bytes], task: RefineTask, num_workers: int, num_threads: int
) -> Generator[list[bytes], None, None]:
    """Refines images while the next seeds are made.

    Args:
        seeds: drawn one by one, in this process; a line that is finished already passes through.
        task: what to do with a seed.
        num_workers: processes; 0 = in this one. Two images per process are in flight at most, so
            that memory does not grow.
        num_threads: threads of each.

    Yields:
        The journal's lines, in the order in which they are finished; all that are finished at a
        time together.

    Raises:
        WsisError: a worker has died.
    """
    if num_workers == 0:
        for seed in seeds:
            yield [seed if isinstance(seed, bytes) else task(seed)]
        return
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=_context(),
        initializer=_start_worker,
        initargs=(task, num_threads),
    )
    pending: set[Future[bytes]] = set()
    try:
        for seed in seeds:
            lines = []
            if isinstance(seed, bytes):
                lines.append(seed)
            else:
                pending.add(pool.submit(_run_task, seed))
            full = len(pending) >= _PER_WORKER * num_workers
            lines += _finished(pending, timeout=None if full else 0)
            if lines:
                yield lines
        while pending:
            yield _finished(pending, timeout=None)
    except BrokenProcessPool as error:
        raise WsisError(
            "a worker process that refines masks has died (killed? out of memory?); what is finished "
            "is kept: continue with --resume, with a smaller PROXY.NUM_WORKERS if memory is short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _context() -> multiprocessing.context.BaseContext:
    """Workers start as copies of a clean process that has imported wsis, once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _finished(pending: set[Future[bytes]], timeout: float | None) -> list[bytes]:
    """Takes what is finished out of ``pending``; without a timeout waits for the first. What failed
    is raised once nothing else is finished.
    """
    done, _ = wait(pending, timeout, return_when=FIRST_COMPLETED)
    taken = {future for future in done if future.exception() is None} or done
    pending -= taken
    return [future.result() for future in taken]
