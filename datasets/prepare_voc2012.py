"""Turn the official PASCAL VOC 2012 and SBD trees into COCO JSON files and class PNGs.

    python datasets/prepare_voc2012.py [--root DIR] [--min-iou 0.5] [--workers N]

datasets/README.md shows the trees before and after and says what each file holds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from wsis.data.builtin_paths import BUILTIN
from wsis.data.prepare import (
    boxes_only,
    converter_parser,
    number_annotations,
    parallel_map,
    part_of,
)
from wsis.data.voc import image_id_of
from wsis.data.voc_coco import CATEGORIES, VocFolders, VocRecord, convert_train, convert_val
from wsis.engine import run_tool
from wsis.errors import ConfigError, counted
from wsis.structures.proxy_file import write_json_atomic


def convert(
    names: list[str], function: partial[VocRecord], label: str, workers: int
) -> dict[str, Any]:
    """Converts one set of images and prints what came of it; returns the COCO document."""
    records = parallel_map(function, names, workers, label)
    images, annotations = number_annotations((r.image, r.annotations) for r in records)
    masks = sum("segmentation" in annotation for annotation in annotations)
    print(
        f"{label}: {counted(len(images), 'image')}, {counted(len(annotations), 'annotation')}, {masks} with mask;"
        f" {sum(r.unmatched_objects for r in records)} XML objects found no mask,"
        f" {sum(r.unmatched_masks for r in records)} masks no XML object"
    )
    info = {"description": f"PASCAL VOC 2012, {label}"}
    return {"info": info, "images": images, "annotations": annotations, "categories": CATEGORIES}


def main(argv: list[str] | None = None) -> None:
    """Write the four JSON files and the class PNGs."""
    parser = converter_parser(__doc__, "VOCdevkit and benchmark_RELEASE")
    parser.add_argument(
        "--min-iou",
        type=float,
        default=0.5,
        help="least box IoU of a mask instance and its XML object (default: 0.5)",
    )
    args = parser.parse_args(argv)
    if not 0 < args.min_iou <= 1:
        raise ConfigError(f"--min-iou: found {args.min_iou}, expected a number above 0 up to 1")
    folders = VocFolders(args.root)
    folders.check()
    train_aug, val, own_masks = folders.names()
    to_val = partial(convert_val, folders=folders, min_iou=args.min_iou)
    to_train = partial(convert_train, folders=folders, own_masks=own_masks, min_iou=args.min_iou)
    documents = {"voc_2012_val_instances": convert(val, to_val, "val", args.workers)}
    masked = convert(train_aug, to_train, "train-aug", args.workers)
    documents["voc_2012_trainaug"] = masked
    documents["voc_2012_trainaug_boxes"] = boxes_only(masked)
    train = {image_id_of(name) for name in own_masks}
    documents["voc_2012_train_instances"] = part_of(masked, train, "PASCAL VOC 2012, train")
    for name, document in documents.items():
        path = args.root / BUILTIN[name][0]
        write_json_atomic(path, document)
        print(f"{path}: written")
    print(f"{folders.train_aug_classes}: {len(train_aug)} class PNGs written")


if __name__ == "__main__":
    run_tool(main)
