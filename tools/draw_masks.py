#!/usr/bin/env python
"""One picture of several files' masks side by side: the given boxes, then a column per file; a row per image.

    python tools/draw_masks.py --masks "GrabCut=output/grabcut/proxy/boxes.json" "box + CRF=output/crf/proxy/boxes.json"
      --images DIR --output masks.jpg [--count 4] [--width 256]

The files have masks of the same boxes: those of several teachers, or a teacher's and the true ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from PIL import Image

from wsis.data.source import load_source
from wsis.engine import named_folders, output_path, run_tool
from wsis.errors import ConfigError
from wsis.evaluation.proxy_pairs import matching_annotations
from wsis.report.comparison import WIDTH, teacher_sheet
from wsis.structures.proxy_file import atomic_writer

KINDS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
"""Suffix to what Pillow calls it."""


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--masks", nargs="+", required=True, metavar="NAME=JSON", help="columns, in this order")
    add("--images", default="", metavar="DIR", help="folder that the files' names are relative to")
    add("--output", required=True, type=output_path, metavar="FILE", help=", ".join(KINDS))
    add("--count", type=int, default=4, metavar="N", help="images, spread evenly (4)")
    add("--width", type=int, default=WIDTH, metavar="N", help=f"pixels of a picture ({WIDTH})")
    args = parser.parse_args(argv)
    for name in ("count", "width"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name}: found {getattr(args, name)}, expected at least 1")
    kind = KINDS.get(args.output.suffix.lower())
    if kind is None:
        raise ConfigError(f"--output: found {args.output.name!r}, expected {', '.join(KINDS)}")
    files = named_folders("--masks", args.masks, place="JSON")
    columns = {name: load_source(path, args.images, bad_box="skip") for name, path in files.items()}
    first, *_ = columns.values()
    for each in columns.values():
        matching_annotations(each, first)
    sheet = teacher_sheet(columns, args.count, args.width)
    with atomic_writer(args.output, "wb") as stream:
        Image.fromarray(sheet).save(stream, format=kind, quality=85)
    print(args.output)


if __name__ == "__main__":
    run_tool(main)
