"""Write four photos that anyone may show, out of scikit-image, with 33 boxes: a cat, coins, a cup, an astronaut.

    python datasets/prepare_examples.py [--output examples]

writes images/*.png and examples_boxes.json. There are no true masks. datasets/README.md says whose photos they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

from wsis.data.prepare import number_annotations
from wsis.engine import output_path, run_tool
from wsis.errors import counted
from wsis.structures.proxy_file import atomic_writer, write_json_atomic

Box = tuple[int, int, int, int]

PHOTOS: dict[str, dict[str, list[Box]]] = {
    "chelsea": {"cat": [(0, 0, 400, 300)], "eye": [(137, 85, 69, 63), (294, 109, 48, 54)]},
    "coins": {
        "coin": [
            *((22, 35, 45, 39), (81, 39, 39, 35), (132, 28, 47, 46)),
            *((192, 30, 48, 43), (255, 34, 42, 38), (305, 16, 60, 56)),
            *((25, 104, 42, 41), (84, 108, 38, 37), (134, 110, 39, 35)),
            *((186, 105, 40, 39), (245, 95, 51, 49), (317, 106, 39, 39)),
            *((26, 179, 37, 38), (80, 175, 44, 42), (135, 179, 39, 38)),
            *((189, 170, 48, 47), (251, 172, 46, 45), (315, 156, 65, 62)),
            *((18, 233, 57, 55), (93, 245, 43, 42), (144, 236, 57, 52)),
            *((220, 240, 49, 48), (276, 239, 50, 50), (336, 248, 46, 41)),
        ]
    },
    "coffee": {
        "saucer": [(76, 68, 404, 320)],
        "cup": [(173, 18, 236, 289)],
        "spoon": [(327, 68, 97, 257)],
    },
    "astronaut": {
        "person": [(22, 17, 341, 495)],
        "space shuttle": [(355, 0, 118, 290)],
        "helmet": [(277, 344, 235, 168)],
    },
}
"""Function of skimage.data to class to boxes, ``(x, y, width, height)`` in pixels; drawn by hand, those of the coins by
a threshold. Classes have ids from 1 in this order."""


def document_of(photos: dict[str, np.ndarray]) -> dict[str, Any]:
    """The COCO document of photos (H, W) or (H, W, 3) by their names in :data:`PHOTOS`."""
    names = [name for classes in PHOTOS.values() for name in classes]
    images, annotations = number_annotations(
        (
            {
                "id": number,
                "file_name": f"{photo}.png",
                "height": pixels.shape[0],
                "width": pixels.shape[1],
            },
            [
                {
                    "category_id": names.index(name) + 1,
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                for name, boxes in PHOTOS[photo].items()
                for box in boxes
            ],
        )
        for number, (photo, pixels) in enumerate(photos.items(), start=1)
    )
    return {
        "info": {"description": "photos of scikit-image: public domain, CC0"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }


def main(argv: list[str] | None = None) -> None:
    """Write the photos and the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=output_path, default=Path("examples"), metavar="DIR", help="(examples)")
    args = parser.parse_args(argv)
    photos = {name: getattr(skimage.data, name)() for name in PHOTOS}
    document = document_of(photos)
    for image, pixels in zip(document["images"], photos.values(), strict=True):
        with atomic_writer(args.output / "images" / image["file_name"], "wb") as stream:
            Image.fromarray(pixels).save(stream, format="PNG")
    path = args.output / "examples_boxes.json"
    write_json_atomic(path, document)
    boxes = counted(len(document["annotations"]), "box", "boxes")
    print(f"{path}: {counted(len(photos), 'photo')}, {boxes}")


if __name__ == "__main__":
    run_tool(main)
