#!/usr/bin/env python3
"""Make what a teacher makes of every dataset in DATASETS.TRAIN: proxy masks of boxes, labels and score maps of tags.

    python tools/generate_proxy_masks.py --config-file configs/... [--num-gpus N] [--resume] MODEL.WEIGHTS w.pth ...
    python tools/generate_proxy_masks.py --json boxes.json --images DIR --config-file configs/... --output DIR

A teacher of boxes writes OUTPUT_DIR/proxy/<dataset>.json: COCO JSON with one mask per annotation. Either kind writes
the labels that it has, OUTPUT_DIR/pseudo_labels/<dataset>/, and score maps, OUTPUT_DIR/score_maps/<dataset>/, each with
a manifest.json at the end. A run that was cut short is continued by --resume, on any number of processes. Several
machines need a shared OUTPUT_DIR.

Exit status: 0; 2 if the input is wrong or the run cannot go on (one line says why); 3 if an image could not be read:
its annotations have the status failed, it has no label or score map, and --resume tries it again.
"""

from __future__ import annotations

import argparse

from detectron2.config import CfgNode

from wsis.engine import (
    argument_parser,
    checked_model,
    launch_processes,
    run_tool,
    setup,
    start,
)
from wsis.engine.generation import check_generation, generate_proxy_masks


def main(cfg: CfgNode, args: argparse.Namespace) -> int:
    """Work of one process; returns the exit status."""
    start(cfg, args, "generate")
    return generate_proxy_masks(cfg, checked_model(cfg), resume=args.resume).exit_status


def run() -> int:
    """Checks the input, then starts the processes."""
    args = argument_parser(__doc__).parse_args()
    cfg = setup(args, "generate")
    check_generation(cfg)
    return launch_processes(main, cfg, args)


if __name__ == "__main__":
    run_tool(run)
