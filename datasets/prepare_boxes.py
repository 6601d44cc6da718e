"""Turn boxes of YOLO, LabelMe, CVAT, Open Images, VIA or VOC into one COCO JSON file.

    python datasets/prepare_boxes.py --from yolo --input data.yaml --output boxes.json
    python datasets/prepare_boxes.py --from labelme --input DIR [--images DIR] --output boxes.json

What cannot be used is left out, with one line for each cause that says how often and where first. With --masks the
outlines of YOLO, LabelMe, CVAT and VIA are written as masks, for MODEL.EXTERNAL.FILE. docs/formats.md says what each
format means. Exit status: 0; 2 if the input is wrong; 3 if an annotated image could not be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from wsis.data.formats.cvat import read_cvat
from wsis.data.formats.labelme import read_labelme
from wsis.data.formats.open_images import read_class_descriptions, read_open_images
from wsis.data.formats.recognise import recognise
from wsis.data.formats.records import Imported
from wsis.data.formats.via import read_via
from wsis.data.formats.yolo import read_yolo
from wsis.data.source import check_document
from wsis.data.voc_folder import alike, hints, read_class_names, read_folder, to_document
from wsis.engine import output_path, run_tool
from wsis.errors import ConfigError, DataError, counted
from wsis.structures.proxy_file import write_json_atomic

FORMATS = ("yolo", "labelme", "cvat", "openimages", "via", "voc")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line (`argv`, default `sys.argv[1:]`)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--from", dest="form", required=True, choices=FORMATS, help="the format")
    add("--input", type=Path, required=True, metavar="PATH", help="its file or folder")
    add("--images", type=Path, metavar="DIR", help="images (default: where the format has them)")
    add("--output", type=output_path, required=True, metavar="JSON", help="the file to write")
    add("--classes", type=Path, metavar="FILE", help="one class per line; Open Images: code,name")
    add("--masks", action="store_true", help="write outlines as masks")
    add("--split", default="train", metavar="KEY", help="of YOLO's data.yaml: train, val or test")
    add("--label-key", default="", metavar="NAME", help="the attribute that is the class in VIA")
    add("--zero-based", action="store_true", help="VOC: corners are coordinates from 0")
    args = parser.parse_args(argv)
    for option, used, forms in (
        ("--masks", args.masks, ("yolo", "labelme", "cvat", "via")),
        ("--split", args.split != "train", ("yolo",)),
        ("--label-key", args.label_key, ("via",)),
        ("--zero-based", args.zero_based, ("voc",)),
    ):
        if used and args.form not in forms:
            raise ConfigError(f"{option}: goes with --from {', '.join(forms)}, found {args.form}")
    return args


def read(args: argparse.Namespace) -> Imported:
    """The dataset, by the reader of its format."""
    source, images = args.input, args.images
    if args.form == "openimages":
        classes = read_class_descriptions(args.classes) if args.classes else None
        return read_open_images(source, images, classes)
    names = read_class_names(args.classes) if args.classes else None
    if args.form == "yolo":
        return read_yolo(source, images, args.split, names)
    if args.form == "via":
        return read_via(source, images, names, args.label_key)
    return {"labelme": read_labelme, "cvat": read_cvat}[args.form](source, images, names)


def convert(args: argparse.Namespace) -> tuple[dict[str, Any], Path, list[str], list[str]]:
    """The document, the folder of its images, and lines: notes about what was left out, images that could not be read.

    Raises:
        DataError: nothing can be used; names the format that it may be of, if that is another one.
    """
    try:
        if args.form == "voc":
            return convert_voc(args)
        found = read(args)
        document = found.to_document(args.masks)
    except DataError as error:
        other = recognise(args.input)
        if other in ("", args.form):
            raise
        advice = "it is COCO JSON already" if other == "coco" else f"it looks like --from {other}"
        raise DataError(f"{error}; {advice}") from error
    left_out = [f"left out: {line}" for line in found.left_out.lines()]
    notes = [*left_out, *(f"note: {line}" for line in found.notes.lines())]
    return document, found.root, notes, found.unreadable.lines()


def convert_voc(args: argparse.Namespace) -> tuple[dict[str, Any], Path, list[str], list[str]]:
    """As :func:`convert`; the mistakes of XML files are told all at once."""
    names = read_class_names(args.classes) if args.classes else None
    root = args.images or args.input
    folder = read_folder(args.input, root, zero_based=args.zero_based, class_names=names)
    if folder.problems:
        *others, last = alike(folder.problems)
        for problem in others:
            sys.stderr.write(f"error: {problem}\n")
        raise DataError(last)
    document = to_document(folder.records, names, args.zero_based)
    if not document["annotations"]:
        raise DataError(f"{args.input}: the XML files have no object; draw a box around each one")
    return document, root, [f"note: {note}" for note in hints(folder, args.zero_based)], []


def main(argv: list[str] | None = None) -> int:
    """Write the JSON file; returns the exit status."""
    args = parse_args(argv)
    if not args.input.exists():
        raise DataError(f"{args.input}: no such file or folder (--input)")
    document, root, notes, unreadable = convert(args)
    check_document(document, str(args.output), str(root), "", bad_box="later")
    write_json_atomic(args.output, document)
    for note in notes:
        print(note)
    images = counted(len(document["images"]), "image")
    boxes = counted(len(document["annotations"]), "box", "boxes")
    masks = sum("segmentation" in a for a in document["annotations"])
    classes = ", ".join(category["name"] for category in document["categories"])
    print(
        f"{args.output}: {images}, {boxes}{f', {masks} with mask' if args.masks else ''}; classes: {classes}; "
        f"image folder: {root}"
    )
    for line in unreadable:
        sys.stderr.write(f"left out: {line}\n")
    return 3 if unreadable else 0


if __name__ == "__main__":
    run_tool(main)
