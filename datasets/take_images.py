#!/usr/bin/env python
"""The first images of a COCO file, with their annotations, as a COCO file of its own.

python datasets/take_images.py --json boxes.json --count 200 --output boxes_200.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wsis.data.prepare import first_images
from wsis.engine import output_path, run_tool
from wsis.errors import ConfigError, counted
from wsis.structures.proxy_file import write_json_atomic


def main(argv: Sequence[str] | None = None) -> None:
    """Reads, takes, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", required=True, metavar="JSON", help="COCO file")
    add("--count", required=True, type=int, metavar="N", help="images, in the file's order")
    add("--output", required=True, type=output_path, metavar="JSON", help="the file to write")
    args = parser.parse_args(argv)
    if args.count < 1:
        raise ConfigError(f"--count: found {args.count}, expected at least 1")
    taken = first_images(args.json, args.count)
    write_json_atomic(args.output, taken)
    images = counted(len(taken["images"]), "image")
    annotations = counted(len(taken["annotations"]), "annotation")
    print(f"{args.output}: {images}, {annotations}")


if __name__ == "__main__":
    run_tool(main)
