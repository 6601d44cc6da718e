#!/usr/bin/env python
"""How good folders of semantic labels are, against true labels or true masks.

    python tools/evaluate_pseudo_labels.py --labels DIR [DIR ...] (--gt-labels DIR | --gt gt.json) [--output out.json]

Any folders of 8-bit PNG label maps will do; a label and its truth have the same name. 255 in a label is a miss by the
protocol "strict" and not counted by "covered"; 255 in the truth is never counted. Contour F is the F-score of the
classes' boundaries, within 0.8 % of the image's diagonal and pooled over the images; 255 is background to it. All
numbers are percent. Images without a label are not scored, and counted below the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wsis.data.source import load_source
from wsis.engine import output_path, run_tool
from wsis.evaluation import format_semantic
from wsis.evaluation.label_folders import (
    class_names_of,
    label_folder_quality,
    truth_of_folder,
    truth_of_instances,
)
from wsis.structures.proxy_file import write_json_atomic


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", nargs="+", required=True, metavar="DIR", help="labels to judge")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--gt-labels", metavar="DIR", help="folder of true labels")
    truth.add_argument("--gt", metavar="JSON", help="COCO file with the true masks of the images")
    parser.add_argument(
        "--output", type=output_path, metavar="JSON", help="write all numbers to this file"
    )
    args = parser.parse_args(argv)
    if args.gt is not None:
        source = load_source(args.gt, bad_box="skip", need_boxes=False)
        read, names = truth_of_instances(source), ["background", *source.class_names]
    else:
        read = truth_of_folder(args.gt_labels)
        names = class_names_of([*args.labels, args.gt_labels])
    found = {str(Path(d)): label_folder_quality(d, read, names) for d in args.labels}
    print(format_semantic(found))
    for folder, quality in found.items():
        if quality["missing"]:
            images = quality["images"]
            print(f"{folder}: {images} of {images + quality['missing']} images have a label")
    if args.output:
        write_json_atomic(args.output, found, indent=2)


if __name__ == "__main__":
    run_tool(main)
