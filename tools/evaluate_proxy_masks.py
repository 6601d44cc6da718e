#!/usr/bin/env python
"""How good a proxy-mask file is: against true masks with --gt, else how well the masks fit their boxes.

    python tools/evaluate_proxy_masks.py --proxy p.json [--gt gt.json] [--output out.json]
    python tools/evaluate_proxy_masks.py --proxy sam.json --boxes boxes.json [--gt gt.json]

Any COCO JSON with boxes and masks will do; the two files are joined by annotation id. With --boxes the masks are those
of another tool, a COCO list of results or a COCO JSON with ids of its own, and are first joined to these boxes; see
docs/external_masks.md. A list may also do with the boxes of --gt.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wsis.data.external_masks import JOINS, join_masks
from wsis.data.source import CocoSource, load_source, read_document
from wsis.engine import output_path, run_tool
from wsis.errors import DataError
from wsis.evaluation import format_quality, proxy_quality
from wsis.structures.proxy_file import write_json_atomic


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line (default ``sys.argv[1:]``)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--proxy", required=True, metavar="JSON", help="the masks to judge")
    add("--gt", metavar="JSON", help="the same annotations with true masks")
    add("--boxes", metavar="JSON", help="the boxes that masks of another tool are joined to")
    add("--join", choices=JOINS, default="auto", help="MODEL.EXTERNAL.JOIN")
    add("--min-iou", type=float, default=0.5, metavar="IOU", help="MODEL.EXTERNAL.MIN_IOU")
    add("--any-class", action="store_true", help="MODEL.EXTERNAL.MATCH_CLASS False")
    add("--output", type=output_path, metavar="JSON", help="write all numbers to this file")
    return parser.parse_args(argv)


def read_proxy(args: argparse.Namespace) -> CocoSource:
    """The masks to judge, with the ids of their boxes.

    Raises:
        DataError: a file is wrong, or it is a list of results and no file has its boxes.
    """
    boxes = args.boxes
    if boxes is None:
        document, _ = read_document(args.proxy, "")
        if not isinstance(document, list):
            return load_source(args.proxy, bad_box="skip")
        if args.gt is None:
            raise DataError(
                f"{args.proxy}: found a list, which has no boxes; name the COCO file that has them by --boxes"
            )
        boxes = args.gt
    source = load_source(boxes, bad_box="skip")
    joined = join_masks(
        args.proxy,
        source,
        join=args.join,
        min_iou=args.min_iou,
        match_class=not args.any_class,
    )
    print(joined.summary)
    return joined.as_source(source)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    args = parse_args(argv)
    proxy = read_proxy(args)
    gt = load_source(args.gt, bad_box="skip", need_boxes=False) if args.gt is not None else None
    quality = proxy_quality(proxy, gt)
    print(format_quality(quality))
    if args.output:
        write_json_atomic(args.output, quality, indent=2)


if __name__ == "__main__":
    run_tool(main)
