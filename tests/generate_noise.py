"""``tools/generate_proxy_masks.py`` with the test's own teacher; started by tests as a program."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import tests.noise  # noqa: F401  # registration
from wsis.engine import run_tool

PATH = Path(__file__).resolve().parents[1] / "tools" / "generate_proxy_masks.py"
SPEC = importlib.util.spec_from_file_location("generate_tool", PATH)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def main(cfg, args: argparse.Namespace) -> int:
    return work(cfg, args)


work = tool.main
if __name__ == "__main__":
    tool.main = main  # one that the processes find under its name
    tool_main, tool.main = tool.main, main
    run_tool(tool.run)
