"""Launching; what needs the tools or a training is in test_trainer.py and end_to_end/test_train_net.py."""

from __future__ import annotations

import os
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn

from wsis.engine import launch
from wsis.engine.launch import checks_here, keep_memory, patient_barrier, share_buffers
from wsis.errors import ConfigError, DataError


def report(folder: Path) -> int:
    """One file per process: what it knows of the others."""
    total = torch.tensor([float(comm.get_rank() + 1)])
    if dist.is_initialized():
        dist.all_reduce(total)
    text = f"{comm.get_world_size()} {comm.get_local_rank()} {comm.get_local_size()} {total.item()}"
    (folder / f"rank{comm.get_rank()}").write_text(text)
    return 3 * comm.get_rank()


def test_a_single_process_needs_no_group_and_works_on_its_device(tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for device in ("cuda", "cuda:1"):
        assert launch(report, device=device, args=(tmp_path,)) == 0
    assert chosen == ["cuda:1"]
    assert (tmp_path / "rank0").read_text() == "1 0 1 1.0"


def come_late(folder: Path) -> int:
    """As :func:`report`; the second process has seen other images, and is later than the process group waits."""
    wait = patient_barrier()
    model = nn.BatchNorm1d(1)
    model(torch.full((2, 1), 5.0 + comm.get_rank()))
    share_buffers(model)
    (folder / f"mean{comm.get_rank()}").write_text(f"{model.running_mean.item():.2f}")
    status = report(folder)
    comm.synchronize()
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1))
    if comm.get_rank():
        time.sleep(3)
    wait()
    return status


def test_two_machines_meet_at_an_address_wait_for_each_other_and_share_buffers(tmp_path):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    url = f"tcp://127.0.0.1:{store.port}"
    del store
    arguments = [(come_late, 1, 2, rank, url, "cpu", (tmp_path,)) for rank in (0, 1)]
    other = mp.get_context("spawn").Process(target=launch, args=arguments[1])
    other.start()
    assert launch(*arguments[0]) == 0
    other.join()
    assert other.exitcode == 0
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["2 0 1 3.0"] * 2
    assert [(tmp_path / f"mean{rank}").read_text() for rank in (0, 1)] == ["0.50", "0.50"]


@pytest.mark.parametrize(
    ("outcomes", "kind", "text"),
    [
        ([0, DataError("b.json: annotation 7")], DataError, "^b.json: annotation 7$"),
        ([0], mp.ProcessRaisedException, "the stack of the process"),
    ],
)
def test_the_users_mistake_arrives_as_it_is_and_any_other_with_its_stack(
    monkeypatch, outcomes, kind, text
):
    def spawn(worker, nprocs, args):
        for each in outcomes:
            args[-2].put(each)
        raise mp.ProcessRaisedException("the stack of the process", 1, 123)

    monkeypatch.setattr(mp, "spawn", spawn)
    with pytest.raises(kind, match=text):
        launch(report, 2)


def test_a_group_of_one_by_torchrun_is_left_behind_closed(tmp_path, monkeypatch):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
    names |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}  # the store is there already
    for name, value in names.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
    assert launch(report, 7, args=(tmp_path,)) == 0  # torchrun's number holds
    assert (tmp_path / "rank0").read_text() == "1 0 1 1.0"
    assert not dist.is_initialized()


def test_one_process_of_a_machine_makes_the_checks(monkeypatch):
    assert checks_here()
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    assert not checks_here()
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert checks_here()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_processes": 0}, "--num-gpus 0"),
        ({"num_machines": 2, "machine_rank": 2}, "--machine-rank 2"),
        ({"num_machines": 2}, "--dist-url auto: several machines need an address"),
        ({"num_processes": 65, "device": "cuda"}, "this machine has [0-9]+ CUDA devices"),
    ],
)
def test_numbers_that_do_not_fit(options, text):
    assert "RANK" not in os.environ
    with pytest.raises(ConfigError, match=text):
        launch(report, **options)


def pages_made(keep: bool) -> int:
    """How many a large tensor needs that are not there, at best, where one like it has just been freed."""
    if keep:
        keep_memory()
    counts = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
    for _ in range(6):
        torch.ones(64, 2**20)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return min(after - before for before, after in pairwise(counts))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_is_kept_for_the_next_tensor():
    with ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as pool:
        as_it_is, kept = (pool.submit(pages_made, keep).result() for keep in (False, True))
    assert kept < 100 < 10_000 < as_it_is
