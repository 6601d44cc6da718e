"""Write COCO JSON files of CUB-200-2011 with a tag of each image, and boxes or masks to judge localisation by.

    python datasets/prepare_cub.py [--root DIR] [--held-out 5] [--workers N]

datasets/README.md shows the trees before and after.
"""

from __future__ import annotations

from wsis.data.localisation_sets import prepare, read_cub
from wsis.engine import run_tool


def main(argv: list[str] | None = None) -> None:
    """Write the JSON files."""
    for line in prepare(argv, __doc__, read_cub, "cub", "CUB_200_2011"):
        print(line)


if __name__ == "__main__":
    run_tool(main)
