#!/usr/bin/env python
"""One picture per image: boxes, the labels made of them, where the first two differ, a prediction, in one strip.

    python tools/label_strips.py --json boxes.json --images DIR --labels y_crf=DIR y_ret=DIR [prediction=DIR]
      --output DIR [--count N] [--config-file C MODEL.WEIGHTS w.pth]

A folder of labels holds one PNG per image: OUTPUT_DIR/pseudo_labels/<dataset>/<label>, or what train_net.py --eval-only
writes with TEST.SAVE_LABELS True. With --config-file, the config of a BANAClassifier, and its weights, the background
attention is shown too. The report page takes the pictures up: tools/visualize_proxy_masks.py --strips DIR.

Exit status: 0; 2 if the input is wrong (one line says what); 3 if an image could not be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from wsis.config import load_cfg
from wsis.data.dicts import to_dicts
from wsis.data.mapper import TeacherDatasetMapper
from wsis.data.source import CocoSource, load_source
from wsis.engine import WsisCheckpointer, WsisTrainer, output_path, run_tool
from wsis.engine.cli import choose_device
from wsis.errors import ConfigError
from wsis.methods.bana import BANAClassifier
from wsis.methods.bana.attention import attention_map
from wsis.report.strip import MapMaker, write_strips


def attention_maker(config_file: str, opts: Sequence[str], source: CocoSource) -> MapMaker:
    """The background attention of the classifier that a config names."""
    cfg = load_cfg(config_file, opts)
    choose_device(cfg, opts)
    if not cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(source.class_names) + 1
    model = WsisTrainer.build_model(cfg).eval()
    if not isinstance(model, BANAClassifier):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: found {cfg.MODEL.META_ARCHITECTURE}, expected BANAClassifier"
        )
    WsisCheckpointer(model, strict=True, save_to_disk=False).load(cfg.MODEL.WEIGHTS)
    mapper = TeacherDatasetMapper(cfg)
    records = {record["image_id"]: record for record in to_dicts(source, "box")}

    @torch.no_grad()
    def make(entry: dict[str, Any], image: np.ndarray) -> dict[str, np.ndarray]:
        (seed,) = model.propose([mapper(records[entry["id"]], image)])
        return {"background attention": attention_map(seed, model.params.legacy_box_shift)}

    return make


def label_folders(items: Sequence[str]) -> dict[str, str]:
    """``NAME=DIR`` each, as name to folder.

    Raises:
        ConfigError: another form, or a name twice.
    """
    folders: dict[str, str] = {}
    for item in items:
        name, _, folder = item.partition("=")
        if not name or not folder:
            raise ConfigError(f"--labels: found {item!r}, expected NAME=DIR")
        if name in folders:
            raise ConfigError(f"--labels: the name {name!r} occurs twice")
        folders[name] = folder
    return folders


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", required=True, metavar="JSON", help="images and boxes")
    add("--images", default="", metavar="DIR", help="folder that the file's names are relative to")
    add("--labels", nargs="+", required=True, metavar="NAME=DIR", help="label maps, in this order")
    add("--output", required=True, type=output_path, metavar="DIR", help="folder of the pictures")
    add("--count", type=int, default=8, metavar="N", help="images, spread evenly; 0 = all (8)")
    add("--config-file", metavar="FILE", help="of a BANAClassifier, for its background attention")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="keys of that config")
    args = parser.parse_args(argv)
    folders = label_folders(args.labels)
    if args.count < 0:
        raise ConfigError(f"--count: found {args.count}, expected at least 0")
    if args.opts and not args.config_file:
        raise ConfigError(f"command line: {args.opts[0]!r}: config keys need --config-file")
    source = load_source(args.json, args.images, bad_box="skip")
    maps = attention_maker(args.config_file, args.opts, source) if args.config_file else None
    written = write_strips(source, folders, args.output, args.count, maps)
    for path in written.paths:
        print(path)
    for reason in written.unreadable:
        sys.stderr.write(f"unreadable: {reason}\n")
    return 3 if written.unreadable else 0


if __name__ == "__main__":
    run_tool(main)
