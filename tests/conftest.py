"""What every test gets: fixed seeds, one thread, no network, loggers as they were; the tools as a user calls them."""

from __future__ import annotations

import random
import runpy
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from tests.tiny import loggers_as_before, write_dataset

SEED = 20
TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture(autouse=True, scope="module")
def loggers_of_modules() -> Iterator[None]:
    """What a fixture of a module gave the loggers ends with the module."""
    with loggers_as_before():
        yield


@pytest.fixture(autouse=True)
def loggers_of_tests() -> Iterator[None]:
    """What a test gave the loggers ends with the test."""
    with loggers_as_before():
        yield


@pytest.fixture(autouse=True)
def fixed_seed() -> int:
    """Seed every generator before each test, and return the seed."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002  # Detectron2's augmentations draw from it
    torch.manual_seed(SEED)
    return SEED


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Keep PyTorch on one thread: tests run side by side, and results do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuse connections of this process to other machines."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise RuntimeError(f"a test wants to connect to {address}: tests use no network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


class Ended(NamedTuple):
    """How a tool ended: exit status, what it printed, what stands on the error stream."""

    status: int
    out: str
    err: str


@pytest.fixture
def tool(monkeypatch, capsys) -> Callable[..., Ended]:
    """``tool(name, words...)``: runs a tool, by name or by path, in this process."""

    def run(name: str | Path, *words: Any) -> Ended:
        path = TOOLS / f"{name}.py" if isinstance(name, str) else name
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ended(ended.value.code, printed.out, printed.err)

    return run


@pytest.fixture
def run(tool) -> Callable[..., tuple[int, str]]:
    """``run(name, words...)``: exit status and the error of a tool, if it ends in one."""

    def outcome(name: str, *words: Any) -> tuple[int, str]:
        status, _, text = tool(name, *words)
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert errors == text.splitlines()[-1:] or not errors, "the error is one line, and the last"
        return status, errors[0] if errors else ""

    return outcome


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folder with four images and ``boxes.json``."""
    write_dataset(tmp_path / "data")
    return tmp_path / "data"
