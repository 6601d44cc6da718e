"""A dataset is read once on each machine, whoever starts the processes."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest
from torch import distributed as dist
from torch import multiprocessing as mp

from tests.tiny import write_config
from wsis.data import registration
from wsis.data.registration import get_source
from wsis.engine import argument_parser, launch_processes, processes, setup, start
from wsis.errors import DataError


def full_disk(folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _reads_nothing(cfg, args):
    start(cfg, args, "train")
    return len(get_source("tiny").annotations)


def test_processes_do_not_read_the_files_again(tmp_path, data):
    config = write_config(tmp_path, data)
    args = argument_parser().parse_args(["--config-file", str(config), "--num-gpus", "2"])
    cfg = setup(args, "train")
    number = len(get_source("tiny").annotations)
    for path in data.glob("*.json"):
        path.unlink()
    assert launch_processes(_reads_nothing, cfg, args) == number > 0


def test_without_room_each_process_reads_for_itself(tmp_path, data, monkeypatch):
    config = write_config(tmp_path, data)
    args = argument_parser().parse_args(["--config-file", str(config), "--num-gpus", "2"])
    cfg = setup(args, "train")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(processes, "hand_over", full_disk)
    monkeypatch.setattr(processes, "launch", lambda main, *_: main(*_[-1]))
    assert launch_processes(_reads_nothing, cfg, args) == len(get_source("tiny").annotations)
    assert not list(tmp_path.glob("wsis-datasets-*"))


def _first(environment, args):
    os.environ.update(environment, LOCAL_RANK="0", RANK="0")
    setup(args, "train")


@pytest.fixture
def started_first(monkeypatch):
    """``started_first(args)``: starts the first of two processes of ``torchrun``; this one is the second."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "GROUP_RANK": "0"}
    where |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    where |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**where, "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)

    def start(args):
        process = mp.get_context("spawn").Process(target=_first, args=(where, args))
        process.start()
        return process

    yield start
    del store


def test_processes_of_torchrun_take_over_what_the_first_has_read(
    tmp_path, data, monkeypatch, started_first
):
    config = write_config(tmp_path, data, SOLVER__IMS_PER_BATCH=2)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    args = argument_parser().parse_args(["--config-file", str(config)])
    first = started_first(args)
    monkeypatch.setattr(registration, "load_source", None)
    setup(args, "train")
    assert len(get_source("tiny").annotations) > 0
    first.join()
    assert first.exitcode == 0
    assert not list(tmp_path.glob("wsis-datasets-*"))


def test_processes_of_torchrun_find_the_mistake_that_the_first_has_found(
    tmp_path, data, started_first
):
    config = write_config(tmp_path, data, SOLVER__IMS_PER_BATCH=2)
    for path in data.glob("*.json"):
        path.write_text("{")
    args = argument_parser().parse_args(["--config-file", str(config)])
    first = started_first(args)
    with pytest.raises(DataError, match="not valid JSON"):
        setup(args, "train")
    first.join()
    assert first.exitcode == 1
