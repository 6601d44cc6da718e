"""Which check a recorded file belongs to, and what it says."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.golden.compare import Comparison

METHODS = ("bbam", "boxcaseg", "bana", "bas", "icam")
PASS, FAIL, NO_CHECK = "PASS", "FAIL", "NO CHECK"

Arrays = Mapping[str, np.ndarray]
CheckFunction = Callable[[Arrays], Iterable[Comparison]]


@dataclass(frozen=True)
class Check:
    """A registered check.

    Attributes:
        method: one of METHODS.
        prefix: how the names of its files begin.
        arrays: required array names; ``#`` in a name stands for any whole number.
        run: the arrays of a file to its comparisons, at least one.
    """

    method: str
    prefix: str
    arrays: tuple[str, ...]
    run: CheckFunction

    def fits(self, file_name: str, names: Collection[str]) -> bool:
        """Whether a file has the prefix and all required arrays."""
        return file_name.startswith(self.prefix) and all(
            any(_pattern(required).fullmatch(name) for name in names) for required in self.arrays
        )


@dataclass(frozen=True)
class Outcome:
    """What one file gave: status PASS, FAIL or NO CHECK, and one line of detail."""

    path: Path
    status: str
    detail: str


class Ambiguous(Exception):
    """Two checks fit a file equally well."""


REGISTRY: list[Check] = []


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\#", r"(\d+)"))


def check(method: str, prefix: str, arrays: str = "") -> Callable[[CheckFunction], CheckFunction]:
    """Register the decorated function.

    Args:
        method: one of METHODS.
        prefix: how its file names begin, e.g. ``paste`` for ``paste.npz`` and ``paste_2.npz``.
        arrays: required array names with spaces between; ``#`` stands for any whole number, so ``Q#`` asks for at
            least one of Q0, Q1, ... Name every array without which the check cannot run.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {METHODS}")

    def register(run: CheckFunction) -> CheckFunction:
        REGISTRY.append(Check(method, prefix, tuple(arrays.split()), run))
        return run

    return register


def cases(arrays: Arrays, template: str) -> list[int]:
    """The numbers, sorted, for which a file has an array; template: its name with one ``#``."""
    found = (_pattern(template).fullmatch(name) for name in arrays)
    return sorted(int(match.group(1)) for match in found if match)


def tensor(values: np.ndarray) -> torch.Tensor:
    """A tensor of its own."""
    return torch.from_numpy(np.array(values))


def tags(arrays: Arrays, names: Sequence[str]) -> list[str]:
    """The cases, sorted, of a file whose arrays are named after them: ``a`` of ``a_logits`` and the like.

    Args:
        arrays: of one file.
        names: what follows the case and ``_`` in an array's name; the longest that fits counts.
    """
    endings = sorted((f"_{name}" for name in names), key=len, reverse=True)
    found = ((name, next((e for e in endings if name.endswith(e)), None)) for name in arrays)
    return sorted({name.removesuffix(ending) for name, ending in found if ending})


def load_checks() -> list[Check]:
    """Import every ``checks_*`` module beside this one; all registered checks."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("checks_"):
            importlib.import_module(f"{package}.{module.name}")
    return REGISTRY


def choose(
    checks: Sequence[Check], file_name: str, folder: str, names: Collection[str]
) -> Check | None:
    """The check of a file, None where none fits: longest prefix first, then the one whose method is the folder's name.

    Args:
        checks: all.
        file_name: without folder.
        folder: name of the folder that holds the file.
        names: of the arrays in it.

    Raises:
        Ambiguous: two are left.
    """
    fitting = [item for item in checks if item.fits(file_name, names)]
    longest = max((len(item.prefix) for item in fitting), default=0)
    left = [item for item in fitting if len(item.prefix) == longest]
    if len(left) > 1:
        left = [item for item in left if item.method == folder] or left
    if len(left) > 1:
        raise Ambiguous(", ".join(f"{item.method} {item.run.__name__}" for item in left))
    return left[0] if left else None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file; never unpickles.

    Raises:
        ValueError: not an archive, or an array of Python objects (NumPy and zipfile raise their own
            errors for broken archives).
    """
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("a single array, not an npz archive")
    with archive:
        return {name: archive[name] for name in archive.files}


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def check_file(path: Path, checks: Sequence[Check]) -> Outcome:
    """Run the check, one of ``checks``, of an ``.npz`` file; whatever goes wrong is a FAIL with its reason."""
    try:
        arrays = read_arrays(path)
    except Exception as error:  # noqa: BLE001  whatever a reader raises is the file's verdict
        return Outcome(path, FAIL, f"unreadable: {_one_line(error)}")
    try:
        chosen = choose(checks, path.name, path.resolve().parent.name, arrays)
    except Ambiguous as error:
        return Outcome(path, FAIL, f"ambiguous: {error}")
    if chosen is None:
        return Outcome(path, NO_CHECK, "")
    try:
        comparisons = list(chosen.run(arrays))
    except Exception as error:  # noqa: BLE001  a check that raises has failed
        return Outcome(path, FAIL, _one_line(error))
    if not comparisons:
        return Outcome(path, FAIL, "the check compared nothing")
    off = [item for item in comparisons if not item.passed]
    worst = max(comparisons, key=lambda item: item.badness)
    detail = f"{worst} ({len(off)} of {len(comparisons)} off)" if off else f"{worst}"
    return Outcome(path, FAIL if off else PASS, detail)


def check_folder(folder: Path, checks: Sequence[Check]) -> Iterator[Outcome]:
    """Outcomes of all ``.npz`` files in a folder and its subfolders, in order of their paths."""
    for path in sorted(folder.rglob("*.npz")):
        yield check_file(path, checks)
