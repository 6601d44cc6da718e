"""Turn a folder per class (CUB, ILSVRC, torchvision's ImageFolder) into one COCO JSON file with image tags.

    python datasets/prepare_image_folder.py --images DIR --output tags.json

The names of the folders are the classes. Methods of image tags train on the file with WSIS.SUPERVISION image; it has
no boxes. datasets/README.md says more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wsis.data.image_folder import left_out, to_tag_document
from wsis.data.source import check_document
from wsis.engine import output_path, run_tool
from wsis.errors import counted
from wsis.structures.proxy_file import write_json_atomic


def main(argv: list[str] | None = None) -> None:
    """Write the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="a folder of it for each class")
    add("--output", type=output_path, required=True, metavar="JSON", help="the file to write")
    args = parser.parse_args(argv)
    document = to_tag_document(args.images)
    check_document(document, str(args.output), str(args.images), "")
    write_json_atomic(args.output, document)
    other = left_out(args.images, document)
    if other:
        print(f"note: {counted(other, 'file')} left out: no image, or in no folder of a class")
    images = counted(len(document["images"]), "image")
    classes = counted(len(document["categories"]), "class", "classes")
    print(f"{args.output}: {images}, {classes}")


if __name__ == "__main__":
    run_tool(main)
