"""Several processes on CPU or GPU, on one machine or more, or under ``torchrun``."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.multiprocessing as mp
from detectron2.utils import comm
from torch import distributed as dist
from torch import nn

from wsis.compat import create_local_process_group, gather_timeout
from wsis.errors import ConfigError, WsisError, counted

# Long enough for what one process does alone while the others wait: scoring, merging the journals of a generation.
TIMEOUT = timedelta(hours=1)
# Long enough for a process that has done its share of a generation, and waits for those that have not.
PATIENCE = timedelta(days=7)
DEVICES = ("cpu", "cuda")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def under_torchrun() -> bool:
    """Whether ``torchrun`` (or something like it) has started this process as one of several."""
    return all(key in os.environ for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"))


def checks_here() -> bool:
    """Whether this process makes the checks that one process of each machine makes for all, before the group exists."""
    return not under_torchrun() or int(os.environ["LOCAL_RANK"]) == 0


def machine_store() -> tuple[dist.Store, int] | None:
    """Where the processes that ``torchrun`` has started on this machine tell each other something before their group
    exists, and how many they are; None where they are not several.
    """
    size = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if under_torchrun() else 1
    if size < 2 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None  # without torchrun's agent, nobody serves a store yet
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(*where, is_master=False, wait_for_workers=False, timeout=TIMEOUT)
    names = ("GROUP_RANK", "TORCHELASTIC_RESTART_COUNT")
    return dist.PrefixStore("/".join(["wsis", *map(os.environ.__getitem__, names)]), store), size


def check_device(device: str) -> None:
    """Refuses what is no device, and a CUDA device that is not there.

    Args:
        device: ``MODEL.DEVICE``.

    Raises:
        ConfigError: neither the CPU nor a CUDA device that PyTorch sees.
    """
    found: torch.device | None = None
    with contextlib.suppress(RuntimeError):
        found = torch.device(device)
    if found is None or found.type not in DEVICES:
        raise ConfigError(f"MODEL.DEVICE: found {device!r}, expected cpu, cuda or cuda:<number>")
    if found.type == "cpu":
        return
    if not torch.cuda.is_available():
        raise ConfigError(
            f"MODEL.DEVICE: found {device}, but PyTorch sees no CUDA device; set MODEL.DEVICE cpu"
        )
    number = torch.cuda.device_count()
    if (found.index or 0) >= number:
        raise ConfigError(
            f"MODEL.DEVICE: found {device}, but PyTorch sees {counted(number, 'CUDA device')}, counted from 0"
        )


def launch(
    main: Callable[..., int | None],
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    device: str = "cpu",
    args: tuple[Any, ...] = (),
) -> int:
    """Runs ``main(*args)`` in every process of a run and waits for all of them.

    Under ``torchrun``, which has started the processes already, the numbers come from it.

    Args:
        main: importable under its name; returns an exit status or None.
        num_processes: per machine; on GPU one for each GPU.
        num_machines, machine_rank: how many machines there are and which one this is.
        dist_url: where the processes meet, such as "tcp://machine0:29500"; "auto" on a single machine.
        device: "cpu" (gloo) or "cuda" (nccl).
        args: picklable.

    Returns:
        The largest exit status of this machine's processes.

    Raises:
        ConfigError: the numbers do not fit together or this machine.
        WsisError: what ended one of the processes.
    """
    if under_torchrun():
        world_size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
        _check_devices(local_size, device)
        with _process_group(
            int(os.environ["LOCAL_RANK"]), local_size, rank, world_size, "env://", device
        ):
            return main(*args) or 0
    if num_processes < 1 or num_machines < 1 or not 0 <= machine_rank < num_machines:
        raise ConfigError(
            f"--num-gpus {num_processes} --num-machines {num_machines} --machine-rank {machine_rank}: expected at "
            "least one process and machine, and ranks from 0"
        )
    _check_devices(num_processes, device)
    if num_processes * num_machines == 1:
        if device.startswith("cuda:"):  # what PyTorch is not told the device of is about this one
            torch.cuda.set_device(device)
        return main(*args) or 0
    if dist_url == "auto" and num_machines > 1:
        raise ConfigError(
            "--dist-url auto: several machines need an address, such as tcp://machine0:29500"
        )
    with tempfile.TemporaryDirectory(prefix="wsis-launch-") as folder:
        url = f"file://{folder}/rendezvous" if dist_url == "auto" else dist_url
        world_size = num_machines * num_processes
        group = partial(
            _process_group, local_size=num_processes, world_size=world_size, url=url, device=device
        )
        worker_args = main, machine_rank * num_processes, group
        outcomes = mp.get_context("spawn").SimpleQueue()
        try:
            mp.spawn(_worker, nprocs=num_processes, args=(*worker_args, outcomes, args))
        except mp.ProcessRaisedException:
            errors = [each for each in _drain(outcomes) if isinstance(each, WsisError)]
            if errors:
                raise errors[0] from None
            raise
        return max(each for each in _drain(outcomes) if isinstance(each, int))


def _check_devices(num_processes: int, device: str) -> None:
    if not device.startswith("cuda"):
        return
    if num_processes > torch.cuda.device_count():
        raise ConfigError(
            f"--num-gpus {num_processes}: this machine has {counted(torch.cuda.device_count(), 'CUDA device')}; "
            "MODEL.DEVICE cpu starts processes on the CPU"
        )
    if num_processes > 1 and device != "cuda":
        raise ConfigError(
            f"MODEL.DEVICE {device}: several processes take one GPU each; set it to cuda"
        )


def _drain(queue: Any) -> Iterator[int | WsisError]:
    while not queue.empty():
        yield queue.get()


def _worker(
    local_rank: int,
    main: Callable[..., int | None],
    first_rank: int,
    group: Callable[..., contextlib.AbstractContextManager[None]],
    outcomes: Any,
    args: tuple[Any, ...],
) -> None:
    try:
        with group(local_rank, rank=first_rank + local_rank):
            outcomes.put(main(*args) or 0)
    except WsisError as error:
        outcomes.put(error)
        raise


@contextlib.contextmanager
def _process_group(
    local_rank: int, local_size: int, rank: int, world_size: int, url: str, device: str
) -> Iterator[None]:
    """This process as one of the run, as long as the block lasts. A block that raises leaves the group as it is: the
    others may be waiting in it, and whoever started the processes ends them.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=url,
        world_size=world_size,
        rank=rank,
        timeout=TIMEOUT,
    )
    create_local_process_group(local_size)
    with gather_timeout(TIMEOUT):
        comm.synchronize()
        yield
        comm.synchronize()
    dist.destroy_process_group()


def patient_barrier() -> Callable[[], object]:
    """A barrier for processes that may come to it days apart; every other one gives up after :data:`TIMEOUT`.

    Returns:
        What all processes call together; all make it together, too.
    """
    if comm.get_world_size() == 1:
        return lambda: None
    return partial(comm.all_gather, None, dist.new_group(backend="gloo", timeout=PATIENCE))


def keep_memory() -> None:
    """Has glibc keep freed memory for the next tensor, whose pages the system would else make anew. Does nothing with
    another C library.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def share_buffers(model: nn.Module) -> None:
    """Gives all processes the buffers of the main one, whose model is the one that is saved.

    Parameters are the same everywhere, but in training each process's batch norms take their statistics from its own
    images. All processes call it together.

    Args:
        model: wrapped or not; changed in place.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
