"""A tiny dataset for every test, loggers as they were, and the tools as a user calls them."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import loggers_as_before, write_dataset

__all__ = ["data", "loggers_as_before"]

TOOLS = Path(__file__).parents[2] / "tools"
RunTool = Callable[..., tuple[int, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folder with four images and ``boxes.json``."""
    write_dataset(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(monkeypatch, capsys) -> RunTool:
    """``run(tool, words...)``: runs a tool here; returns exit status and the error, if it ends in one."""

    def call(tool: str, *words: Any) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [tool, *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOLS / f"{tool}.py"), run_name="__main__")
        text = capsys.readouterr().err
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in text
        assert errors == text.splitlines()[-1:] or not errors, "the error is one line, and the last"
        return ended.value.code, errors[0] if errors else ""

    return call
