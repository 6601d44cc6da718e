"""Turn labels made of image tags into one COCO JSON file with a box and a mask per object.

    python datasets/prepare_instances.py --json tags.json --labels DIR --output instances.json [--min-area 0.01]

For people who have no boxes at all: each connected component of a class in a label map (of IRNet, of BAS or a CAM, of a
segmentor) becomes an object, so neighbours of one class that touch are one. Components below --min-area of their
image's area are left out and counted. The file trains a student as proxy masks do; docs/methods/irn.md has the chain.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wsis.data.labels import check_label_classes, read_label
from wsis.data.prepare import mask_annotation, number_annotations
from wsis.data.source import CocoSource, check_document, load_source
from wsis.engine import output_path, run_tool
from wsis.errors import DataError, counted
from wsis.layers.components import components
from wsis.structures.proxy_file import write_json_atomic
from wsis.structures.pseudo_labels import label_path


def to_document(
    source: CocoSource, folder: Path, min_area: float
) -> tuple[dict[str, Any], int, int]:
    """The COCO document, how many images have no label, and how many components are too small.

    Raises:
        DataError: labels of other classes or sizes, or none of them is there, or no component is large enough.
    """
    check_label_classes(folder, ["background", *source.class_names])
    categories = {number: category for category, number in source.id_to_contiguous.items()}
    records, missing, small = [], 0, 0
    for image in tqdm(source.images, desc="labels", unit="image", disable=None):
        path = label_path(folder.parent, folder.name, image["file_name"])
        if not path.exists():
            missing += 1
            continue
        size = image["height"], image["width"]
        label = read_label(path, *size, num_classes=1 + len(source.class_names))
        large, left_out = components(label, min_area)
        small += left_out
        made = [mask_annotation(mask, categories[number - 1]) for number, mask in large]
        kept = {key: image[key] for key in ("id", "file_name", "height", "width")}
        records.append((kept, [each for each in made if each]))
    images, annotations = number_annotations(records)
    if not annotations:
        raise DataError(
            f"{folder}: found no object in {counted(len(records), 'label')} of {counted(len(source.images), 'image')}; "
            "name the folder OUTPUT_DIR/pseudo_labels/<dataset>/<label>, or a smaller --min-area"
        )
    document = {"images": images, "annotations": annotations, "categories": source.categories}
    return document, missing, small


def main(argv: list[str] | None = None) -> None:
    """Write the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", required=True, metavar="JSON", help="the images and classes")
    add("--labels", type=Path, required=True, metavar="DIR", help="label maps, one PNG per image")
    add("--output", type=output_path, required=True, metavar="JSON", help="the file to write")
    add("--min-area", type=float, default=0.01, metavar="SHARE", help="of the image (0.01)")
    args = parser.parse_args(argv)
    source = load_source(args.json, bad_box="skip", need_boxes=False)
    document, missing, small = to_document(source, args.labels, args.min_area)
    check_document(document, str(args.output), "", "")
    write_json_atomic(args.output, document)
    if missing:
        print(f"note: {counted(missing, 'image')} left out: no label")
    if small:
        print(f"note: {counted(small, 'component')} left out: below {args.min_area:g} of the image")
    objects = counted(len(document["annotations"]), "object")
    print(f"{args.output}: {counted(len(document['images']), 'image')}, {objects}")


if __name__ == "__main__":
    run_tool(main)
