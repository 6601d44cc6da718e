from __future__ import annotations

from pathlib import Path

import pytest

from tests.generating import generate
from tests.noise import make_cfg, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve images, see :func:`write_data`."""
    write_data(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def expected(data: Path, tmp_path: Path) -> bytes:
    """The file that every way of making it must give."""
    return generate(make_cfg(data, tmp_path / "expected")).files[0].read_bytes()


@pytest.fixture
def unfinished(data: Path, tmp_path: Path) -> Path:
    """OUTPUT_DIR of a run that has done some images and torn a line."""
    generate(make_cfg(data, tmp_path / "out"))
    (tmp_path / "out/proxy/noise.json").unlink()
    journal = tmp_path / "out/proxy/noise.rank0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]) + lines[6][:-9])
    return tmp_path / "out"
