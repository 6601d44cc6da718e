#!/usr/bin/env python
"""How good a proxy-mask file is: against true masks with --gt, else how well the masks fit their boxes.

    python tools/evaluate_proxy_masks.py --proxy p.json [--gt gt.json] [--output out.json]

Any COCO JSON with boxes and masks will do; the two files are joined by annotation id.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wsis.data.source import load_source
from wsis.engine import run_tool
from wsis.evaluation import format_quality, proxy_quality
from wsis.structures.proxy_file import write_json_atomic


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--proxy", required=True, metavar="JSON", help="the masks to judge")
    parser.add_argument("--gt", metavar="JSON", help="the same annotations with true masks")
    parser.add_argument("--output", metavar="JSON", help="write all numbers to this file")
    args = parser.parse_args(argv)
    proxy = load_source(args.proxy, bad_box="skip")
    gt = load_source(args.gt, bad_box="skip", need_boxes=False) if args.gt else None
    quality = proxy_quality(proxy, gt)
    print(format_quality(quality))
    if args.output:
        write_json_atomic(args.output, quality, indent=2)


if __name__ == "__main__":
    run_tool(main)
