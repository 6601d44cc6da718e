#!/usr/bin/env python
"""A page to look through a proxy-mask file, the worst masks first.

    python tools/visualize_proxy_masks.py --proxy p.json [--images DIR] [--gt gt.json] [--strips DIR] --output report/

Writes report/index.html: one file that needs no server and no network. Worst is the lowest IoU with the ground truth,
without --gt the lowest IoU of the mask's tight box with the given box. Any COCO JSON with boxes and masks will do.
With --strips, what tools/label_strips.py wrote for the images stands below their enlarged masks; with --maps cam=DIR
the score maps of a folder, or of several, in the colours of their classes.

Exit status: 0; 2 if the input is wrong (one line says what); 3 if an image could not be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from detectron2.utils.logger import setup_logger

from wsis.data.source import load_source
from wsis.engine import named_folders, output_path, run_tool
from wsis.engine.progress import Progress
from wsis.errors import ConfigError, counted
from wsis.report.page import SHOWN, write_page
from wsis.report.strip import StripMaker


def _progress(number: int) -> Callable[[], None]:
    return Progress("report", number, "images").advance


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--proxy", required=True, metavar="JSON", help="the masks to look at")
    add("--images", default="", metavar="DIR", help="folder that the file's names are relative to")
    add("--gt", metavar="JSON", help="the same annotations with true masks")
    add("--maps", nargs="+", default=[], metavar="NAME=DIR", help="folders of score maps to show")
    add("--strips", metavar="DIR", help="folder that tools/label_strips.py wrote")
    add("--output", required=True, type=output_path, metavar="DIR", help="folder of the page")
    add("--limit", type=int, default=SHOWN, metavar="N", help=f"the N worst only ({SHOWN})")
    args = parser.parse_args(argv)
    if args.limit < 1:
        raise ConfigError(f"--limit: found {args.limit}, expected at least 1")
    if args.maps and args.strips:
        raise ConfigError(
            "--strips: expected one of --strips and --maps; label_strips.py takes maps"
        )
    maps = named_folders("--maps", args.maps)
    setup_logger(name="wsis")
    proxy = load_source(args.proxy, args.images, bad_box="skip")
    gt = load_source(args.gt, bad_box="skip", need_boxes=False) if args.gt is not None else None
    strips = StripMaker(proxy, {}, maps) if maps else args.strips
    page = write_page(args.output, proxy, gt, args.limit, _progress, strips)
    number = counted(page.masks, "mask")
    number = f"{page.shown} of {number}" if page.shown < page.masks else number
    images = counted(page.images, "image")
    size = page.path.stat().st_size / 1e6
    with_strip = f", {page.strips} with a strip" if strips else ""
    print(f"{page.path}: {number} in {images}{with_strip}, by {page.measure}, {size:.1f} MB")
    for problem in page.unreadable:
        sys.stderr.write(f"error: {problem}\n")
    return 3 if page.unreadable else 0


if __name__ == "__main__":
    run_tool(main)
