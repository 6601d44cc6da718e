#!/usr/bin/env python3
"""Show why a detector finds what it finds: BBAM's attribution maps of its detections in your images.

    python tools/explain.py --config-file configs/... --input 'images/*.jpg' --output out/ MODEL.WEIGHTS w.pth ...

The config is the detector's own, or BBAM's of it. Every detection above MODEL.BBAM.DEMO.SCORE_THRESHOLD is explained.
For each image <name>.png shows its detections and their maps, and <name>_<number>_<class>.gif what a map leaves of the
image, step by step, with the proposal (blue) and the detector's box with the whole image (green) and with what is left
(red). Where DATASETS.TRAIN is not at hand, set MODEL.ROI_HEADS.NUM_CLASSES (MODEL.RETINANET.NUM_CLASSES),
or name its file by --json and --images.

Exit status: 0; 2 if the input is wrong (one line says what); 3 if an image could not be read.
"""

from __future__ import annotations

import argparse
import sys

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from wsis.config import load_cfg
from wsis.config.params import read
from wsis.data.classes import names_of
from wsis.data.folders import find_images
from wsis.data.images import UnreadableImageError, read_image
from wsis.data.mapper import TeacherDatasetMapper
from wsis.data.registration import prepare_datasets
from wsis.engine import (
    WsisCheckpointer,
    add_short_words,
    apply_short_words,
    output_path,
    run_tool,
)
from wsis.engine.checkpoint import trained_categories
from wsis.engine.cli import choose_device
from wsis.engine.prediction import resolve_categories
from wsis.errors import ConfigError, DataError, counted
from wsis.methods.bbam.config import BBAMParams
from wsis.methods.bbam.demo import demo_settings
from wsis.methods.bbam.detector import ExplainableDetector, explainable
from wsis.methods.bbam.meta_arch import build_detector
from wsis.methods.bbam.pictures import write_explanations


def resolve_classes(cfg: CfgNode) -> list[str]:
    """Fills in the class numbers, unless they are given, and returns the names, as far as they are known.

    Raises:
        ConfigError: the dataset that knows them is not at hand.
    """
    if trained_categories(cfg):
        return names_of(resolve_categories(cfg))
    if cfg.MODEL.ROI_HEADS.NUM_CLASSES or cfg.MODEL.RETINANET.NUM_CLASSES or not cfg.DATASETS.TRAIN:
        return []
    try:
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    except DataError as error:
        raise ConfigError(
            f"{error}; without the dataset set MODEL.ROI_HEADS.NUM_CLASSES or MODEL.RETINANET.NUM_CLASSES"
        ) from error
    return MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes


def load_detector(cfg: CfgNode) -> ExplainableDetector:
    """The detector with its weights, frozen."""
    params = read(cfg, BBAMParams)
    model = build_detector(cfg)
    view = explainable(model, params.inclusive_boxes)
    WsisCheckpointer(model, strict=True, save_to_disk=False).load(cfg.MODEL.WEIGHTS)
    model.to(torch.device(cfg.MODEL.DEVICE)).eval().requires_grad_(False)
    return view


def main() -> int:
    """Explains image by image; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="YAML file of the detector or of BBAM")
    add("--input", required=True, nargs="+", metavar="IMAGE", help="files or quoted patterns")
    add("--output", required=True, type=output_path, metavar="DIR", help="folder of the pictures")
    add_short_words(parser)
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, at the end")
    args = parser.parse_args()
    cfg = load_cfg(args.config_file, args.opts)
    apply_short_words(cfg, args)
    choose_device(cfg, args.opts)
    paths = find_images(args.input)
    names = resolve_classes(cfg)
    view = load_detector(cfg)
    settings = demo_settings(cfg)
    mapper = TeacherDatasetMapper(cfg)
    failed = 0
    for path in paths:
        try:
            image = read_image(path, high_bit_depth=cfg.INPUT.HIGH_BIT_DEPTH)
        except UnreadableImageError as error:
            sys.stderr.write(f"unreadable: {error}\n")
            failed += 1
            continue
        record = {"height": image.shape[0], "width": image.shape[1], "annotations": []}
        network_image = mapper(record, image)["image"]
        target = args.output / path.stem
        number = write_explanations(
            image, network_image, view, settings, names, cfg.INPUT.FORMAT, target
        )
        found = counted(number, "detection")
        print(f"{path}: {found} above {settings.threshold}: {target}.png")
    return 3 if failed else 0


if __name__ == "__main__":
    run_tool(main)
