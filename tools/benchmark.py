#!/usr/bin/env python
"""Time a way of doing something against the plain way of doing the same: the door to the folder `benchmarks/`.

    python tools/benchmark.py PART [--output JSON] [--threads N] [options]

`tools/benchmark.py --help` lists the parts, `tools/benchmark.py PART --help` says what a part compares.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    folders = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: a folder of this name where the user stands is not the one that is meant
    command = [sys.executable, "-P", "-m", "benchmarks", *sys.argv[1:]]
    os.execve(command[0], command, {**os.environ, "PYTHONPATH": os.pathsep.join(folders)})
