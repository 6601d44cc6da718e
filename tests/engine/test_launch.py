"""Launching; what needs the tools or a training is in test_trainer.py and end_to_end/test_train_net.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from torch import distributed as dist
from torch import multiprocessing as mp

from wsis.engine import launch
from wsis.engine.launch import checks_here
from wsis.errors import ConfigError, DataError


def report(folder: Path) -> int:
    """One file per process: what it knows of the others."""
    total = torch.tensor([float(comm.get_rank() + 1)])
    if dist.is_initialized():
        dist.all_reduce(total)
    text = f"{comm.get_world_size()} {comm.get_local_rank()} {comm.get_local_size()} {total.item()}"
    (folder / f"rank{comm.get_rank()}").write_text(text)
    return 3 * comm.get_rank()


def test_a_single_process_needs_no_group(tmp_path):
    assert launch(report, args=(tmp_path,)) == 0
    assert (tmp_path / "rank0").read_text() == "1 0 1 1.0"


def _fails_with(monkeypatch, *outcomes: object) -> None:
    """Lets the processes put these into their queue; then one of them raises."""

    def spawn(worker, nprocs, args):
        for each in outcomes:
            args[-2].put(each)
        raise mp.ProcessRaisedException("the stack of the process", 1, 123)

    monkeypatch.setattr(mp, "spawn", spawn)


def test_the_users_mistake_in_one_process_arrives_as_it_is(monkeypatch):
    _fails_with(monkeypatch, 0, DataError("boxes.json: annotation 7: no bbox"))
    with pytest.raises(DataError, match="^boxes.json: annotation 7: no bbox$"):
        launch(report, 2)


def test_any_other_error_keeps_its_stack(monkeypatch):
    _fails_with(monkeypatch, 0)
    with pytest.raises(mp.ProcessRaisedException, match="the stack of the process"):
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
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
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
