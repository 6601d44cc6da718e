"""Write a COCO JSON file of those images of DUTS-TR that show a single salient object.

    python datasets/prepare_duts.py [--root DIR] [--min-share 0.95]

datasets/README.md shows the trees before and after.
"""

from __future__ import annotations

from wsis.data.builtin_paths import BUILTIN
from wsis.data.duts import CATEGORIES, convert_pair, list_pairs
from wsis.data.prepare import converter_parser, number_annotations, parallel_map
from wsis.engine import run_tool
from wsis.errors import ConfigError, DataError, counted
from wsis.structures.proxy_file import write_json_atomic


def main(argv: list[str] | None = None) -> None:
    """Write the JSON file."""
    parser = converter_parser(__doc__, "DUTS-TR")
    parser.add_argument(
        "--min-share",
        type=float,
        default=0.95,
        help="an image has a single object if so much of its mask is one connected part; 0 keeps every image",
    )
    args = parser.parse_args(argv)
    if not 0 <= args.min_share <= 1:
        raise ConfigError(f"--min-share: found {args.min_share}, expected 0 to 1")
    json_file, images = (args.root / part for part in BUILTIN["duts_tr_single"])
    pairs = list_pairs(images, images.parent / "DUTS-TR-Mask")
    records = parallel_map(convert_pair, pairs, args.workers, "DUTS-TR")
    single = [r for r in records if r.annotations and r.largest_share >= args.min_share]
    if not single:
        raise DataError(f"{images}: of {counted(len(records), 'image')} none shows a single object")
    numbered, annotations = number_annotations(
        ({"id": number} | record.image, record.annotations)
        for number, record in enumerate(single, start=1)
    )
    document = {
        "info": {"description": "DUTS-TR, images of a single salient object"},
        "images": numbered,
        "annotations": annotations,
        "categories": CATEGORIES,
    }
    write_json_atomic(json_file, document)
    print(f"{json_file}: {len(single)} of {counted(len(records), 'image')}")


if __name__ == "__main__":
    run_tool(main)
