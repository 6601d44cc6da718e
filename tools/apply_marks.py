#!/usr/bin/env python
"""Apply the marks that a person made in the report page to the proxy-mask file.

    python tools/apply_marks.py --proxy p.json --marks marks.json --output marked.json [--fallback second.json]

Accepted masks get score 1. Rejected masks become empty, so that a student learns from their box alone, or, with
--fallback, the mask that a second proxy-mask file of the same boxes has. The provenance in the new file says so.

Exit status: 0; 2 if a file is wrong, or the marks are not of this file (one line says what; nothing is written).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wsis.engine import output_path, run_tool
from wsis.engine.marks import apply_marks
from wsis.errors import counted


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the file and says what became of the marks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--proxy", required=True, metavar="JSON", help="the file that the page was made of")
    add("--marks", required=True, metavar="JSON", help='what "Save marks" has saved')
    add("--fallback", metavar="JSON", help="masks of the same boxes to take instead of rejected")
    add("--output", required=True, type=output_path, metavar="JSON", help="the new file")
    args = parser.parse_args(argv)
    made = apply_marks(args.proxy, args.marks, args.output, args.fallback)
    of_second = f", {made.replaced} replaced" if args.fallback else ""
    print(
        f"{made.path}: {counted(made.masks, 'mask')}: {made.accepted} accepted{of_second}, {made.emptied} emptied, "
        f"{made.unchanged} marked that had no mask"
    )


if __name__ == "__main__":
    run_tool(main)
