"""The rules of the house that no linter knows: who may import whom, sizes, and what is never written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# An import goes down only: to a smaller number, or stays inside its room.
FLOORS = {
    "errors": 0,
    "compat": 1,
    "parallel": 1,
    "structures": 2,
    "config": 2,
    "layers": 3,
    "data": 4,
    "modeling": 5,  # a method says what it trains on
    "evaluation": 6,
    "methods": 6,
    "engine": 7,
    "report": 7,
}
ABOVE = ("benchmarks", "datasets", "tests", "tools")
MODULES = sorted((ROOT / "wsis").rglob("*.py"))
SCRIPTS = sorted(
    path
    for folder in (".", "benchmarks", "datasets", "tools")
    for path in ROOT.glob(f"{folder}/*.py")
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_modules(path: Path) -> Iterator[str]:
    """Names of what a file imports, also inside functions, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    room, *rest = path.relative_to(ROOT / "wsis").with_suffix("").parts
    if room == "__init__":  # the face knows everyone
        return
    for module in imported_modules(path):
        parts = module.split(".")
        assert parts[0] not in ABOVE, f"{name_of(path)} imports {module}"
        if parts[0] != "wsis" or len(parts) == 1 or parts[1] not in FLOORS:
            continue
        other = parts[1]
        assert other == room or FLOORS[other] < FLOORS[room], f"{name_of(path)} imports {module}"
        if room == other == "methods" and rest[0] != "__init__" and len(parts) > 2:
            assert parts[2] == rest[0], f"a method imports another: {name_of(path)}: {module}"


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno
            assert lines < MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


NEVER = {
    "moves to a device by name": r"\.cuda\(",
    "changes the import path": r"sys\.path\b",
    "loads without weights_only": r"torch\.load\((?![^)]*weights_only=True)",
    "carries a path of one machine": r"[\"']/(home|root|mnt|Users)/",
    "leaves work open": r"#\s*(TODO|FIXME|XXX)",
}


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_what_is_never_written(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for what, pattern in NEVER.items():
        found = re.search(pattern, text)
        assert found is None, f"{name_of(path)} {what}: {found.group(0) if found else ''}"


def test_every_package_is_on_a_floor() -> None:
    rooms = {path.name for path in (ROOT / "wsis").iterdir() if (path / "__init__.py").is_file()}
    rooms |= {path.stem for path in (ROOT / "wsis").glob("*.py")} - {"__init__"}
    assert rooms <= set(FLOORS)
