#!/usr/bin/env python
"""How good folders of score maps (CAM, BAS, ICAM) are, against true boxes or masks.

    python tools/evaluate_score_maps.py --maps DIR [DIR ...] --gt gt.json [--threshold 0.25] [--choose]

The unit is an image and one of its classes. GTknown: the box of its map above the threshold has an IoU of at least
0.5 with a box of the class. PxAP, PIoU (pixels of all images together), and mIoU, recall and contour F as semantic
seeds at the background constant of the best mIoU need masks; --backgrounds names the constants, 25 of them by
default, as published. Choose the threshold on images that are not judged: with --choose the numbers of the threshold
that is best on these very images are told too, and named so. All numbers are percent.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wsis.data.source import load_source
from wsis.engine import output_path, run_tool
from wsis.evaluation.localisation import LocalisationParams, format_localisation
from wsis.evaluation.score_map_folders import score_map_folder_quality
from wsis.evaluation.seed_sweep import THRESHOLDS
from wsis.structures.proxy_file import write_json_atomic


def threshold(text: str) -> float:
    """A number of at least 0, below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected at least 0, below 1")
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", nargs="+", required=True, metavar="DIR", help="maps to judge")
    parser.add_argument("--gt", required=True, metavar="JSON", help="COCO file of the images")
    parser.add_argument(
        "--threshold", type=threshold, default=LocalisationParams().threshold, help="of the box"
    )
    parser.add_argument("--choose", action="store_true", help="tell the best threshold, too")
    parser.add_argument(
        "--output", type=output_path, metavar="JSON", help="write all numbers to this file"
    )
    parser.add_argument(
        "--backgrounds",
        type=threshold,
        nargs=2,
        metavar=("FROM", "TO"),
        help="scores of background that are tried, in steps of 0.01 (default 0.2 0.44)",
    )
    args = parser.parse_args(argv)
    backgrounds = THRESHOLDS
    if args.backgrounds:
        first, last = (round(100 * each) for each in args.backgrounds)
        backgrounds = tuple(each / 100 for each in range(first, last + 1))
        if not backgrounds:
            parser.error(f"--backgrounds: found {args.backgrounds}, expected the smaller one first")
    source = load_source(args.gt, bad_box="skip", need_boxes=False)
    found = {}
    for folder in args.maps:
        found[str(Path(folder))], counted = score_map_folder_quality(
            folder, source, args.threshold, args.choose, backgrounds
        )
    print(format_localisation(found, counted))
    if args.output:
        write_json_atomic(args.output, found, indent=2)


if __name__ == "__main__":
    run_tool(main)
