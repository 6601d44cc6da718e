"""Write COCO JSON files of ILSVRC 2012 with a tag of each image, and boxes or masks to judge localisation by.

    python datasets/prepare_ilsvrc_loc.py [--root DIR] [--held-out 5] [--workers N]

datasets/README.md shows the trees before and after.
"""

from __future__ import annotations

from wsis.data.localisation_sets import prepare, read_ilsvrc
from wsis.engine import run_tool


def main(argv: list[str] | None = None) -> None:
    """Write the JSON files."""
    for line in prepare(argv, __doc__, read_ilsvrc, "ilsvrc_loc", "ILSVRC"):
        print(line)


if __name__ == "__main__":
    run_tool(main)
