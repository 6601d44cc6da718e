"""Write the procedural `shapes` dataset: images and COCO JSON files, in seconds.

    python datasets/prepare_shapes.py [--output DIR] [--size 192] [--train 600] [--val 150]

Run again with the same arguments it does nothing; with others it refuses, unless `--force`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from wsis.data.builtin_paths import datasets_root
from wsis.data.shapes import ShapesSpec, prepare_shapes
from wsis.engine import output_path, run_tool


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line (`argv`, default `sys.argv[1:]`)."""
    spec = ShapesSpec()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--output",
        type=output_path,
        help="the dataset's folder (default: shapes in $DETECTRON2_DATASETS or datasets)",
    )
    parser.add_argument("--size", type=int, default=spec.size, help="image side in pixels")
    parser.add_argument("--train", type=int, default=spec.train, help="training images")
    parser.add_argument("--val", type=int, default=spec.val, help="validation images")
    parser.add_argument(
        "--salient", type=int, default=spec.salient, help="images of one centred object"
    )
    parser.add_argument("--seed", type=int, default=spec.seed)
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="drawing processes (default: one per core)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a dataset made with other arguments"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Write the dataset that the command line asks for."""
    args = parse_args(argv)
    output = args.output or Path(datasets_root()) / "shapes"
    spec = ShapesSpec(args.size, args.train, args.val, args.salient, args.seed)
    written = prepare_shapes(output, spec, workers=args.workers, force=args.force)
    print(f"{output}: {'written' if written else 'already there'}")


if __name__ == "__main__":
    run_tool(main)
