"""Work in processes of their own, with a fixed number of threads each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

import cv2
import torch

PER_WORKER = 2
"""Jobs in flight per worker, so that memory does not grow: one at work, one waiting."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def number_of_workers(wanted: int, local_processes: int) -> int:
    """Worker processes of one rank.

    Args:
        wanted: ``PROXY.NUM_WORKERS``; -1 = one per core, shared out among the ranks of the machine.
        local_processes: ranks on this machine.
    """
    return wanted if wanted >= 0 else max(1, cores() // local_processes)


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


class WorkerPool:
    """Processes that do one task again and again; to be used as a context manager, or closed.

    They start as copies of a clean process that has imported wsis, once for all of them.

    Args:
        task: picklable; its arguments are those of :meth:`submit`.
        number: of processes.
        num_threads: of each.
    """

    def __init__(self, task: Callable[..., Any], number: int, num_threads: int = 1) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pool = ProcessPoolExecutor(number, context, _start_worker, (task, num_threads))
        self._most = PER_WORKER * number
        self._pending: set[Future[Any]] = set()

    @property
    def pending(self) -> int:
        """Jobs whose result was not taken."""
        return len(self._pending)

    def submit(self, *arguments: Any) -> None:
        """Another job."""
        self._pending.add(self._pool.submit(_run_task, *arguments))

    def take(self, wait_for_one: bool = False) -> list[Any]:
        """The results of all jobs that are finished; waits for the first if there are as many jobs as there may be, or
        if asked to.

        Raises:
            Exception: what a job raised, once nothing else is finished.
            BrokenProcessPool: a process has died.
        """
        patient = wait_for_one or len(self._pending) >= self._most
        done, _ = wait(self._pending, None if patient else 0, return_when=FIRST_COMPLETED)
        taken = {future for future in done if future.exception() is None} or done
        self._pending -= taken
        return [future.result() for future in taken]

    def close(self) -> None:
        """Ends the processes; jobs that have not begun are forgotten."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


_task: Callable[..., Any] | None = None  # of a worker process


def _start_worker(task: Callable[..., Any], num_threads: int) -> None:
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


def _run_task(*arguments: Any) -> Any:
    if _task is None:
        raise RuntimeError("this is not a worker process")
    return _task(*arguments)
