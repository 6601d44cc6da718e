#!/usr/bin/env python
"""One picture per image: boxes, the labels made of them, where the first two differ, a prediction, in one strip.

    python tools/label_strips.py --json boxes.json --images DIR --labels y_crf=DIR y_ret=DIR [prediction=DIR]
      --output DIR [--count N] [--config-file C MODEL.WEIGHTS w.pth]
    python tools/label_strips.py --json tags.json --images DIR --maps cam=DIR bas=DIR edges walked=DIR
      --labels label=DIR prediction=DIR --output DIR --config-file C MODEL.WEIGHTS w.pth

A folder of labels holds one PNG per image: OUTPUT_DIR/pseudo_labels/<dataset>/<label>, or what train_net.py --eval-only
writes with TEST.SAVE_LABELS True; a folder of score maps is OUTPUT_DIR/score_maps/<dataset>/<map>. With score maps the
strip is one of classes: it names them, and has neither boxes nor differences. With --config-file, the config of a
BANAClassifier or an IRN, and its weights, their background attention or edges stand before the maps, or in their row
where --maps says "edges". The report page takes the pictures up: tools/visualize_proxy_masks.py --strips DIR.

Exit status: 0; 2 if the input is wrong (one line says what); 3 if an image could not be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from wsis.config import load_cfg
from wsis.data.dicts import to_dicts
from wsis.data.source import CocoSource, load_source
from wsis.engine import WsisCheckpointer, WsisTrainer, named_folders, output_path, run_tool
from wsis.engine.cli import choose_device
from wsis.errors import ConfigError
from wsis.methods.bana.attention import attention_map
from wsis.methods.irn.edges import edge_map
from wsis.modeling.teacher import Teacher
from wsis.report.strip import MapMaker, StripMaker, write_strips
from wsis.structures import Seed

MAPS: dict[str, tuple[str, Callable[[Any, Seed], np.ndarray]]] = {
    "BANAClassifier": (
        "background attention",
        lambda model, seed: attention_map(seed, model.params.legacy_box_shift),
    ),
    "IRN": ("edges", lambda model, seed: edge_map(seed)),
}
"""Meta-architecture to the title of what it shows of a whole image, and how that is made of its seed."""
TITLES = [title for title, _ in MAPS.values()]


def model_maps(config_file: str, opts: Sequence[str], source: CocoSource) -> dict[str, MapMaker]:
    """What the model of a config shows of whole images, by its title."""
    cfg = load_cfg(config_file, opts)
    choose_device(cfg, opts)
    if cfg.MODEL.META_ARCHITECTURE not in MAPS:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: found {cfg.MODEL.META_ARCHITECTURE}, expected {' or '.join(MAPS)}"
        )
    if not cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(source.class_names) + 1
    cfg.DATASETS.CUSTOM_SCORE_MAPS = []  # what would walk along the edges
    model = WsisTrainer.build_model(cfg).eval()
    WsisCheckpointer(model, strict=True, save_to_disk=False).load(cfg.MODEL.WEIGHTS)
    mapper = model.generation_mapper(cfg)
    kind = "box" if isinstance(model, Teacher) else "image"
    records = {record["image_id"]: record for record in to_dicts(source, kind)}
    title, made_of = MAPS[cfg.MODEL.META_ARCHITECTURE]

    @torch.no_grad()
    def make(entry: dict[str, Any], image: np.ndarray) -> np.ndarray:
        (seed,) = model.propose([mapper(records[entry["id"]], image)])
        return made_of(model, seed)

    return {title: make}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    some: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "NAME=DIR"}
    add("--json", required=True, metavar="JSON", help="images and boxes")
    add("--images", default="", metavar="DIR", help="folder that the file's names are relative to")
    add("--maps", **some, help="score maps, in this order")
    add("--labels", **some, help="label maps, in this order, after the maps")
    add("--output", required=True, type=output_path, metavar="DIR", help="folder of the pictures")
    add("--count", type=int, default=8, metavar="N", help="images, spread evenly; 0 = all (8)")
    add("--config-file", metavar="FILE", help="of a BANAClassifier or IRN, for what it sees")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="keys of that config")
    args = parser.parse_args(argv)
    labels = named_folders("--labels", args.labels)
    folders = named_folders("--maps", args.maps, TITLES)
    if not labels and not folders:
        raise ConfigError("--labels, --maps: found nothing, expected NAME=DIR")
    if args.count < 0:
        raise ConfigError(f"--count: found {args.count}, expected at least 0")
    if args.opts and not args.config_file:
        raise ConfigError(f"command line: {args.opts[0]!r}: config keys need --config-file")
    source = load_source(args.json, args.images, bad_box="skip", need_boxes=False)
    maps: dict[str, Any] = {}
    if args.config_file:
        maps = model_maps(args.config_file, args.opts, source)
    for title, folder in folders.items():
        if not folder and title not in maps:
            raise ConfigError(f"--maps: {title!r} needs --config-file of a model that makes it")
        maps[title] = folder or maps.pop(title)  # here in the row
    written = write_strips(StripMaker(source, labels, maps), args.output, args.count)
    for path in written.paths:
        print(path)
    for reason in written.unreadable:
        sys.stderr.write(f"unreadable: {reason}\n")
    return 3 if written.unreadable else 0


if __name__ == "__main__":
    run_tool(main)
