#!/usr/bin/env python
"""The first images of a COCO file, with their annotations, as a COCO file of its own.

python datasets/take_images.py --json boxes.json --count 200 --output boxes_200.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wsis.data.prepare import first_images
from wsis.engine import run_tool
from wsis.structures.proxy_file import write_json_atomic


def main(argv: Sequence[str] | None = None) -> None:
    """Reads, takes, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", required=True)
    parser.add_argument("--count", required=True, type=int, metavar="N")
    parser.add_argument("--output", required=True, metavar="JSON")
    args = parser.parse_args(argv)
    taken = first_images(args.json, args.count)
    write_json_atomic(args.output, taken)
    print(f"{args.output}: {len(taken['images'])} images, {len(taken['annotations'])} annotations")


if __name__ == "__main__":
    run_tool(main)
