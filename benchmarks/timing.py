"""Honest timing: ways of one thing in turn, after a warm-up; medians with their spread; memory of a fresh process."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Row = dict[str, Any]
"""A row of a table: column to text or number."""


@dataclass(frozen=True)
class Timing:
    """What several runs of one way took.

    Attributes:
        wall: seconds of each run.
        cpu: seconds of CPU time of each run, of this process and of those that it has waited for.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    def ratios(self, other: Timing) -> tuple[float, ...]:
        """Time of each run over that of the other's run in the same round."""
        return tuple(own / others for own, others in zip(self.wall, other.wall, strict=True))


def interleave(
    ways: Mapping[str, Callable[[], object]], repeats: int = 5, warm_up: int = 1
) -> dict[str, Timing]:
    """Times ways of doing the same in turn, so that what else the machine does meets all of them.

    Args:
        ways: name to what to do.
        repeats: rounds that count; each runs every way once, every second one in reverse order.
        warm_up: rounds before, which do not count.
    """
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warm_up + repeats):
        names = list(ways) if number % 2 == 0 else list(ways)[::-1]
        for name in names:
            seconds, cpu_seconds = measure(ways[name])
            if number >= warm_up:
                wall[name].append(seconds)
                cpu[name].append(cpu_seconds)
    return {name: Timing(tuple(wall[name]), tuple(cpu[name])) for name in ways}


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a work takes: on the clock, and of CPU time, see :class:`Timing`."""
    _wait_for_device()
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    work()
    _wait_for_device()
    return time.perf_counter() - start, _cpu_seconds() - cpu_start


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _cpu_seconds() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timing_rows(timings: dict[str, Timing], plain: str) -> list[Row]:
    """One row for each way: median and range of its seconds, median of its CPU seconds, and *time / plain*, the median
    and range over the rounds of its time over the plain way's (below 1 = faster).

    Args:
        timings: of :func:`interleave`.
        plain: the way that the others are compared with.
    """
    rows = []
    for name, timing in timings.items():
        ratios = timing.ratios(timings[plain])
        rows.append(
            {
                "way": name,
                "seconds": statistics.median(timing.wall),
                "from - to": _range(timing.wall),
                "CPU seconds": statistics.median(timing.cpu),
                "time / plain": statistics.median(ratios),
                "from - to ": _range(ratios),
                "runs": len(timing.wall),
            }
        )
    return rows


def _range(values: tuple[float, ...]) -> str:
    return f"{min(values):.3g} - {max(values):.3g}"


def in_fresh_process(function: Callable[..., T], *args: Any) -> T:
    """Calls a function in a process that has done nothing else, so that memory is its own.

    Args:
        function: of a module, so that it can be found there.
        args: picklable.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def memory(what: str = "VmRSS") -> int:
    """Memory of this process in bytes: "VmRSS" now, "VmHWM" at its highest since :func:`forget_peak`."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{what}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(what)


def forget_peak() -> None:
    """From now on "VmHWM" is the highest memory since this call."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def machine() -> dict[str, str | int | float]:
    """What a number needs beside it: processor, cores, versions, threads, and how busy the machine is."""
    about: dict[str, str | int | float] = {
        "CPU": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
        "nice": os.nice(0),
    }
    if torch.cuda.is_available():
        about["GPU"] = torch.cuda.get_device_name()
    return about


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
