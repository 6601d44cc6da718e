#!/usr/bin/env python
"""Writes docs/config.md from the comments above the config keys.

python tools/document_config.py [--output docs/config.md]
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

import wsis.config.defaults
from wsis.config import config_modules
from wsis.config.document import document
from wsis.engine import output_path, run_tool


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=output_path, default="docs/config.md", metavar="FILE")
    args = parser.parse_args(argv)
    modules = {"Shared keys": wsis.config.defaults}
    for name in config_modules():
        room, module = name.split(".")[-2:]
        title = room if module == "config" else f"{room}, {module.removesuffix('_config')}"
        modules[title] = importlib.import_module(name)
    Path(args.output).write_text(document(modules), encoding="utf-8")


if __name__ == "__main__":
    run_tool(main)
