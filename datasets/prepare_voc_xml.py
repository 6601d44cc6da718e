"""Turn any folder of VOC XML files (LabelImg and others) into one COCO JSON file.

    python datasets/prepare_voc_xml.py --xml DIR [--images DIR] --output boxes.json [--classes FILE] [--zero-based]

Everything that is wrong is told at once, one line for each kind; then nothing is written and the exit status is 2.
datasets/README.md says how images are found and what boxes mean.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wsis.data.source import check_document
from wsis.data.voc_folder import alike, hints, read_class_names, read_folder, to_document
from wsis.engine import output_path, run_tool
from wsis.errors import DataError, counted
from wsis.structures.proxy_file import write_json_atomic


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line (`argv`, default `sys.argv[1:]`)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--xml", type=Path, required=True, metavar="DIR", help="XML files, in subfolders too")
    add("--images", type=Path, metavar="DIR", help="images (default: beside the XML files)")
    add("--output", type=output_path, required=True, metavar="JSON", help="the file to write")
    add("--classes", type=Path, metavar="FILE", help="one class per line (default: all found)")
    add(
        "--zero-based",
        action="store_true",
        help="corners are coordinates from 0, not VOC's pixel numbers from 1",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the JSON file; returns the exit status."""
    args = parse_args(argv)
    names = read_class_names(args.classes) if args.classes else None
    image_root = args.images or args.xml
    folder = read_folder(args.xml, image_root, zero_based=args.zero_based, class_names=names)
    if folder.problems:
        for problem in alike(folder.problems):
            sys.stderr.write(f"error: {problem}\n")
        return DataError.exit_status
    document = to_document(folder.records, names, args.zero_based)
    if not document["categories"]:
        raise DataError(f"{args.xml}: the XML files have no object; name the classes by --classes")
    check_document(document, str(args.output), str(image_root), "", bad_box="later")
    write_json_atomic(args.output, document)
    for hint in hints(folder, args.zero_based):
        print(f"note: {hint}")
    images, boxes = len(document["images"]), len(document["annotations"])
    difficult = sum(a["difficult"] for a in document["annotations"])
    classes = ", ".join(category["name"] for category in document["categories"])
    print(
        f"{args.output}: {counted(images, 'image')}, {counted(boxes, 'box', 'boxes')}, "
        f"{difficult} difficult; classes: {classes}"
    )
    return 0


if __name__ == "__main__":
    run_tool(main)
