#!/usr/bin/env python3
r"""Record what a frozen detector gives its mask head, so that any number of students learn without running it again.

    python tools/record_rois.py --config-file configs/... [--resume] OUTPUT_DIR rois MODEL.WEIGHTS detector.pth ...
    python tools/train_net.py --config-file configs/... MODEL.META_ARCHITECTURE RecordedRCNN \
        MODEL.ROI_MASK_HEAD.RECORD rois MODEL.WEIGHTS detector.pth ...

The config is a student's that freezes all but its mask head, DATASETS.TRAIN the boxes; masks are not needed here.
Students of the same boxes, detector, schedule and augmentations, whatever their masks, then take the very steps that
they would take on images. One process; a run that was cut short is continued by --resume.

Exit status: 0; 2 if the input is wrong (one line says what).
"""

from __future__ import annotations

import argparse

from detectron2.config import CfgNode

from wsis.engine import argument_parser, launch_processes, only_training, run_tool, setup, start
from wsis.engine.recording import NO_MASKS, record_rois
from wsis.errors import ConfigError


def main(cfg: CfgNode, args: argparse.Namespace) -> None:
    """The whole work."""
    with only_training(cfg):
        start(cfg, args, "train")
        record_rois(cfg, args.resume)


def run() -> int:
    """Checks the input, then starts the process."""
    args = argument_parser(__doc__).parse_args()
    args.opts += [word for pair in NO_MASKS.items() for word in pair]
    if args.num_gpus * args.num_machines > 1:
        raise ConfigError("--num-gpus, --num-machines: RoI features are recorded by one process")
    return launch_processes(main, setup(args, "train"), args)


if __name__ == "__main__":
    run_tool(run)
