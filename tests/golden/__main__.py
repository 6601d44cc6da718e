"""``python -m tests.golden DIR``: one line per recorded file, exit status 0 if all pass.

Exit status 1: a file fails or has no check. 2: no such folder, or no ``.npz`` in it.
"""

# ruff: noqa: T201  (its lines are what this command is for)

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from tests.golden.frame import FAIL, NO_CHECK, PASS, check_folder, load_checks


def main(argv: list[str] | None = None) -> int:
    """Check a folder.

    Args:
        argv: command line without the program, default that of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of .npz files")
    folder = parser.parse_args(argv).folder
    if not folder.is_dir():
        print(f"error: {folder}: no such folder", file=sys.stderr)
        return 2
    counts: Counter[str] = Counter()
    for outcome in check_folder(folder, load_checks()):
        counts[outcome.status] += 1
        name = outcome.path.relative_to(folder)
        print(f"{outcome.status:<9} {name}  {outcome.detail}".rstrip(), flush=True)
    if not counts:
        print(f"error: {folder}: no .npz file in it", file=sys.stderr)
        return 2
    print(f"{counts[PASS]} passed, {counts[FAIL]} failed, {counts[NO_CHECK]} without a check")
    return 0 if counts[PASS] == counts.total() else 1


if __name__ == "__main__":
    sys.exit(main())
