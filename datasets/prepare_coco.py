"""Write COCO 2017's training annotations without masks: same images, ids and boxes.

    python datasets/prepare_coco.py [--root DIR]

datasets/README.md shows the trees before and after.
"""

from __future__ import annotations

from wsis.data.builtin_paths import BUILTIN
from wsis.data.prepare import boxes_only, converter_parser
from wsis.data.source import check_document
from wsis.engine import run_tool
from wsis.errors import counted
from wsis.structures.proxy_file import read_json, write_json_atomic


def main(argv: list[str] | None = None) -> None:
    """Write the JSON file."""
    parser = converter_parser(__doc__, "coco/annotations", workers=False)
    args = parser.parse_args(argv)
    path = args.root / BUILTIN["coco_2017_train_boxes"][0]
    full = path.parent / "instances_train2017.json"
    document = read_json(full)
    # COCO itself has a few boxes without area: they are copied, and dealt with where they are used.
    source = check_document(document, str(full), "", "", bad_box="skip")
    write_json_atomic(path, boxes_only(document))
    print(
        f"{path}: {counted(len(source.images), 'image')}, {counted(len(source.annotations), 'box', 'boxes')}"
    )


if __name__ == "__main__":
    run_tool(main)
