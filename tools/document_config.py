#!/usr/bin/env python
"""Writes docs/config.md from the texts of the config keys.

python tools/document_config.py [--output docs/config.md]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wsis.config.document import document
from wsis.engine import output_path, run_tool


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=output_path, default="docs/config.md", metavar="FILE")
    args = parser.parse_args(argv)
    Path(args.output).write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    run_tool(main)
