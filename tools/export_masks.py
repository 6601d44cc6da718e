#!/usr/bin/env python
"""Masks as polygons, for labelling tools and other trainers: proxy masks, true masks, predictions.

    python tools/export_masks.py --to coco-polygons --proxy p.json --output polygons.json [--tolerance 1]
    python tools/export_masks.py --to yolo-seg --proxy p.json --images images --output DIR
    python tools/export_masks.py --to labelme --proxy results.json --json boxes.json --output DIR

Every outline follows the edges of the pixels, unless --tolerance thins it out. What the form cannot say is told in
counted lines; then the files are read again, and the IoU with the masks is printed. docs/formats.md says how corrected
masks come home.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wsis.data.formats.mask_set import Outlines, check_names, read_mask_set
from wsis.data.formats.writers import FORMS, round_trip
from wsis.data.prepare import require_folder
from wsis.engine import output_path, run_tool
from wsis.errors import ConfigError, counted


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line (default ``sys.argv[1:]``)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--to", required=True, choices=list(FORMS), help="the form")
    add("--proxy", required=True, metavar="JSON", help="COCO JSON with masks, or a list of results")
    add("--json", metavar="JSON", help="the COCO JSON that a list of results is about")
    add("--images", type=Path, metavar="DIR", help="of yolo-seg and labelme: to refer to")
    add("--output", required=True, type=output_path, metavar="PATH", help="file, or new folder")
    add(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="thin outlines out that far (0: keep every pixel; 1 is good to correct by hand)",
    )
    add("--fill-holes", action="store_true", help="fill holes instead of cutting them open")
    args = parser.parse_args(argv)
    if not 0 <= args.tolerance < 100:
        raise ConfigError(f"--tolerance: found {args.tolerance}, expected 0 to 100 pixels")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Writes, reads again, and says what became of the masks."""
    args = parse_args(argv)
    form, outlines = FORMS[args.to], Outlines(args.tolerance, args.fill_holes)
    masks = read_mask_set(args.proxy, args.json)
    if args.images is not None:
        require_folder(args.images, "the images")
    if not form.in_order:
        check_names(masks.source)
    form.write(masks, args.output, outlines, args.images)
    iou = round_trip(masks, form, args.output)
    for line in masks.left_out.lines():
        print(f"left out: {line}")
    for line in outlines.notes.lines():
        print(f"note: {line}")
    number, images = len(masks.annotations), len(masks.source.images)
    print(
        f"{args.output}: {counted(number, 'mask')} of {counted(images, 'image')}; "
        f"round trip IoU: mean {iou.mean():.4f}, minimum {iou.min():.4f}"
    )


if __name__ == "__main__":
    run_tool(main)
