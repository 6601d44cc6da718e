#!/usr/bin/env python
"""The first images of a COCO file, with their annotations, as a COCO file of its own.

python datasets/take_images.py --json boxes.json --count 200 --output boxes_200.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wsis.engine import run_tool
from wsis.errors import DataError
from wsis.structures.proxy_file import read_json, write_json_atomic


def main(argv: Sequence[str] | None = None) -> None:
    """Reads, takes, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", required=True)
    parser.add_argument("--count", required=True, type=int, metavar="N")
    parser.add_argument("--output", required=True, metavar="JSON")
    args = parser.parse_args(argv)
    document = read_json(args.json)
    if not isinstance(document, dict) or "images" not in document or "annotations" not in document:
        raise DataError(f"{args.json}: expected a COCO document with 'images' and 'annotations'")
    images = document["images"][: args.count]
    if len(images) < args.count:
        raise DataError(f"{args.json}: found {len(images)} images, expected at least {args.count}")
    kept = {image["id"] for image in images}
    annotations = [each for each in document["annotations"] if each["image_id"] in kept]
    write_json_atomic(args.output, document | {"images": images, "annotations": annotations})
    print(f"{args.output}: {len(images)} images, {len(annotations)} annotations")


if __name__ == "__main__":
    run_tool(main)
