"""Turn the 2018 Data Science Bowl's stage 1 training set into COCO JSON files and RGB images.

    python datasets/prepare_nuclei.py [--root DIR] [--val-fraction 0.2] [--seed 0] [--max-side 360]

datasets/README.md shows the trees before and after and says what each file holds.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from wsis.data.builtin_paths import BUILTIN
from wsis.data.nuclei import CATEGORIES, NucleiRecord, convert_image, list_images, split
from wsis.data.prepare import boxes_only, converter_parser, number_annotations, parallel_map
from wsis.engine import run_tool
from wsis.errors import ConfigError, counted
from wsis.structures.proxy_file import write_json_atomic


def write(root: Path, records: list[NucleiRecord], val: set[str]) -> None:
    """Numbers images and annotations over both splits, then writes the three JSON files."""
    images, annotations = number_annotations(
        ({"id": number} | record.image, record.annotations)
        for number, record in enumerate(records, start=1)
    )
    in_val = {image["id"] for image in images if Path(image["file_name"]).stem in val}
    info = {"description": "2018 Data Science Bowl, stage 1 training images (BBBC038v1, CC0)"}
    documents = {}
    for name, wanted in (("nuclei_train", False), ("nuclei_val", True)):
        documents[name] = {
            "info": info,
            "images": [i for i in images if (i["id"] in in_val) == wanted],
            "annotations": [a for a in annotations if (a["image_id"] in in_val) == wanted],
            "categories": CATEGORIES,
        }
    documents["nuclei_train_boxes"] = boxes_only(documents["nuclei_train"])
    for name, document in documents.items():
        path = root / BUILTIN[name][0]
        write_json_atomic(path, document)
        images = counted(len(document["images"]), "image")
        print(f"{path}: {images}, {counted(len(document['annotations']), 'nucleus', 'nuclei')}")


def main(argv: list[str] | None = None) -> None:
    """Write the images and the three JSON files."""
    parser = converter_parser(__doc__, "nuclei/stage1_train")
    parser.add_argument(
        "--val-fraction", type=float, default=0.2, help="share of the images that become val"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument(
        "--max-side", type=int, default=0, help="leave out larger images (pixels; 0: keep all)"
    )
    args = parser.parse_args(argv)
    if not 0 <= args.val_fraction < 1:
        raise ConfigError(f"--val-fraction: found {args.val_fraction}, expected 0 up to below 1")
    folders = list_images(args.root / "nuclei" / "stage1_train", args.max_side)
    convert = partial(convert_image, images=args.root / BUILTIN["nuclei_train"][1])
    records = parallel_map(convert, folders, args.workers, "nuclei")
    empty = sum(record.empty_masks for record in records)
    if empty:
        print(f"{empty} empty masks left out")
    write(args.root, records, split([f.name for f in folders], args.val_fraction, args.seed))


if __name__ == "__main__":
    run_tool(main)
