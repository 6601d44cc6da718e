"""What all command-line tools have in common about where they write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TOOLS

WRITERS = [
    [path]
    for folder in (TOOLS, TOOLS.parent / "datasets")
    for path in sorted(folder.glob("*.py"))
    if '"--output"' in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize(
    "command",
    [*WRITERS, [TOOLS.parent / "benchmarks" / "__main__.py", "generate"]],
    ids=lambda command: command[0].stem,
)
def test_an_empty_output_is_not_the_present_folder(
    command: list[Path | str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, error = tool(*command, "--output", "")
    assert status == 2
    assert "argument --output: found nothing, expected a path" in error
    assert not list(tmp_path.iterdir())
