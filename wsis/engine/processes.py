"""The processes of a run, which read a dataset once on each machine."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from detectron2.config import CfgNode

from wsis.data.registration import hand_over, take_over
from wsis.engine.launch import checks_here, launch, machine_store, under_torchrun


@contextlib.contextmanager
def datasets_of_the_first() -> Iterator[None]:
    """Around the reading of datasets: of the processes that ``torchrun`` has started on a machine, the others take over
    what the first has read. Where it has failed they read for themselves, and find the same.
    """
    found = machine_store()
    if found is None:
        yield
        return
    store, size = found
    if checks_here():
        folder = ""
        try:
            yield
            folder = _handed_over()
        finally:
            store.set("datasets", folder)
        return
    folder = store.get("datasets").decode()  # waits
    if folder:
        take_over(Path(folder))
        if store.add("taken", 1) == size - 1:  # what is mapped stays
            shutil.rmtree(folder, ignore_errors=True)
    yield


def launch_processes(
    main: Callable[[CfgNode, argparse.Namespace], int | None],
    cfg: CfgNode,
    args: argparse.Namespace,
) -> int:
    """Runs ``main(cfg, args)`` in as many processes as the arguments or ``torchrun`` say; see :func:`launch`. Those
    that this one starts take its datasets over.
    """
    where = args.num_machines, args.machine_rank, args.dist_url, cfg.MODEL.DEVICE
    if args.num_gpus < 2 or under_torchrun():
        return launch(main, args.num_gpus, *where, (cfg, args))
    folder = _handed_over()
    try:
        return launch(_with_datasets, args.num_gpus, *where, (main, folder, cfg, args))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_datasets(
    main: Callable[[CfgNode, argparse.Namespace], int | None],
    folder: str,
    cfg: CfgNode,
    args: argparse.Namespace,
) -> int | None:
    if folder:
        take_over(Path(folder))
    return main(cfg, args)


def _handed_over() -> str:
    """A new folder that has what was read; "" where there is no room for it, and each process reads for itself."""
    folder = ""
    try:
        folder = tempfile.mkdtemp(prefix="wsis-datasets-")
        hand_over(Path(folder))
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return ""
    return folder
