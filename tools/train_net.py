#!/usr/bin/env python3
"""Train or evaluate a teacher or a student.

    python tools/train_net.py --config-file configs/... [--num-gpus N] [--resume] [--eval-only] KEY VALUE ...
    python tools/train_net.py --json boxes.json --images DIR [--val-json v.json] --config-file configs/... --output DIR
    python tools/train_net.py --proxy masks.json --images DIR [--val-json v.json] --config-file configs/... --output DIR

Training writes checkpoints, logs, TensorBoard events and metrics to OUTPUT_DIR; the scores of DATASETS.TEST go to
OUTPUT_DIR/inference/results.json, during training and with --eval-only. Several machines: start it on each
with --num-machines, --machine-rank and --dist-url, or start it by torchrun.

Exit status: 0; 2 if the input is wrong (one line says what; nothing is written then); 3 if DATASETS.BAD_IMAGE skip has
left images out, or PROXY.GENERATE_AFTER_TRAIN met unreadable ones.
"""

from __future__ import annotations

import argparse

from detectron2.config import CfgNode

from wsis.engine import (
    WsisTrainer,
    argument_parser,
    checked_model,
    launch_processes,
    only_training,
    run_tool,
    setup,
    start,
)


def main(cfg: CfgNode, args: argparse.Namespace) -> int:
    """Work of one process; returns the exit status."""
    if args.eval_only:
        start(cfg, args, "test")
        WsisTrainer.test(cfg, checked_model(cfg, args.resume))
        return 0
    with only_training(cfg):
        start(cfg, args, "train")
        trainer = WsisTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
    return max(trainer.exit_status, 3 if any(args.left_out.values()) else 0)


def run() -> int:
    """Checks the input, then starts the processes."""
    args = argument_parser(__doc__, training=True).parse_args()
    return launch_processes(main, setup(args, "test" if args.eval_only else "train"), args)


if __name__ == "__main__":
    run_tool(run)
