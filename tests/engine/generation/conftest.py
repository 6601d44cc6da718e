from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.generating import generate, outputs
from tests.noise import KINDS, Noise, make_cfg, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve images, see :func:`write_data`."""
    write_data(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Which teacher is at work: one of boxes, unless a test is marked with :data:`EVERY_KIND`."""
    return getattr(request, "param", "NoiseTeacher")


@pytest.fixture
def final(kind: str, tmp_path: Path) -> Path:
    """The file that ends the generation in ``out``."""
    return tmp_path / "out" / KINDS[kind]


@pytest.fixture
def run(data: Path, tmp_path: Path, kind: str) -> Callable[..., Any]:
    """``run(output="out", resume=False, source=data, **keys)``: a generation, after which ``out`` has its results."""

    def run(output: str = "out", *, resume: bool = False, source: Path = data, **keys: Any) -> Any:
        keys = {"MODEL__META_ARCHITECTURE": kind, **keys}
        return generate(make_cfg(source, tmp_path / output, **keys), resume=resume)

    return run


@pytest.fixture
def expected(run: Callable[..., Any], tmp_path: Path) -> dict[str, bytes]:
    """The files that every way of making them must give."""
    run("expected")
    return outputs(tmp_path / "expected")


@pytest.fixture
def unfinished(run: Callable[..., Any], tmp_path: Path) -> Path:
    """OUTPUT_DIR of a run that has done some images and torn a line."""
    run().files[0].unlink()
    journal = tmp_path / "out/proxy/noise.rank0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]) + lines[6][:-9])
    return tmp_path / "out"


@pytest.fixture
def trap(tmp_path: Path) -> Callable[[str], Path]:
    """``trap(name)``: what the teacher in ``out`` shall do besides, see :class:`tests.noise.NoiseRefiner`."""

    def trap(name: str) -> Path:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
        return tmp_path / "out" / name

    return trap


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, Any]]:
    """Image id to what the teacher's network is given, in that order."""
    seen: dict[int, dict[str, Any]] = {}
    original = Noise.propose

    def propose(self: Noise, batched_inputs: list[dict[str, Any]]) -> Any:
        (inputs,) = batched_inputs
        seen[inputs["image_id"]] = inputs
        return original(self, batched_inputs)

    monkeypatch.setattr(Noise, "propose", propose)
    return seen
