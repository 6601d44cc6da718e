"""What all command-line tools have in common about where they write."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = [
    path
    for folder in ("tools", "datasets")
    for path in sorted((ROOT / folder).glob("*.py"))
    if '"--output"' in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize(
    "command",
    [[tool] for tool in TOOLS] + [[ROOT / "benchmarks" / "__main__.py", "generate"]],
    ids=lambda command: command[0].stem,
)
def test_an_empty_output_is_not_the_present_folder(
    command: list[Path | str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--output", ""])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(command[0]), run_name="__main__")
    assert stopped.value.code == 2
    assert "argument --output: found nothing, expected a path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
