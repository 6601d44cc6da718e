#!/usr/bin/env python3
"""A trained student on your own images: pictures, and a COCO annotation file of what it finds.

    python tools/predict.py --config-file C --input 'x/*.jpg' --output out/ MODEL.WEIGHTS w.pth [KEY VALUE ...]

C is best OUTPUT_DIR/config.yaml of the training. Inputs are files, quoted patterns or folders. Writes

    out/predictions.json        images, categories and one annotation per object: box, mask, area, score
    out/overlays/<image>.jpg    the image with masks, boxes, classes and scores; s.jpg.jpg and s.png.jpg where s.jpg and
                                s.png are both there
    out/sem_seg/<image>.png     of a semantic model: classes by number, 0 = background

File names in predictions.json are relative to the folder that all images have in common, which the last line names. A
run that was cut short goes on with --resume, which also tries unreadable images again and takes up new ones.

Exit status: 0; 2 if the input is wrong (one line says what); 3 if an image could not be read.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from wsis.config import load_cfg
from wsis.data.classes import Categories
from wsis.data.folders import expand_patterns
from wsis.data.images import UnreadableImageError, read_image
from wsis.data.voc_folder import read_class_names
from wsis.engine import add_short_words, apply_short_words, output_path, run_tool
from wsis.engine.cli import choose_device
from wsis.engine.journal import finished_is_kept
from wsis.engine.prediction import (
    PredictionFolder,
    Predictor,
    prediction_provenance,
    resolve_categories,
    to_annotations,
)
from wsis.engine.progress import Progress
from wsis.errors import ConfigError, DataError, counted
from wsis.report.fonts import drawable_names
from wsis.report.overlay import overlay
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import atomic_writer
from wsis.structures.pseudo_labels import write_label
from wsis.structures.rle import decode_mask

CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line (default ``sys.argv[1:]``)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="YAML file of the model")
    add("--input", required=True, nargs="+", metavar="IMAGE", help="files, patterns, folders")
    add("--output", required=True, type=output_path, metavar="DIR", help="folder of the results")
    add("--score-threshold", type=float, default=0.5, metavar="S", help="smallest score (0.5)")
    add("--classes", type=Path, metavar="FILE", help="one class per line, as in training")
    add("--resume", action="store_true", help="go on with what is in the folder")
    add_short_words(parser)
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, at the end")
    args = parser.parse_args(argv)
    keys = [i for i, word in enumerate(args.input) if CONFIG_KEY.fullmatch(word)]
    if keys and not os.path.lexists(args.input[keys[0]]):  # --input was the last option
        args.opts = args.input[keys[0] :] + args.opts
        del args.input[keys[0] :]
        if not args.input:
            parser.error("argument --input: expected at least one argument")
    if not 0 <= args.score_threshold <= 1:
        raise ConfigError(
            f"--score-threshold: found {args.score_threshold}, expected a number from 0 to 1"
        )
    return args


def find_inputs(patterns: Sequence[str], output: Path) -> tuple[Path, list[str]]:
    """The folder that all images have in common, and their names below it; what lies in the output folder is no input.

    Raises:
        DataError: no image.
    """
    results = Path(os.path.abspath(output))
    paths = [Path(os.path.abspath(path)) for path in expand_patterns(patterns)]
    paths = [path for path in dict.fromkeys(paths) if results not in path.parents]
    if not paths:
        raise DataError(
            f"{patterns[0]}: no image but in the output folder {output}; name another --output"
        )
    root = Path(os.path.commonpath([path.parent for path in paths]))
    return root, [path.relative_to(root).as_posix() for path in paths]


def picture_names(names: Sequence[str]) -> dict[str, str]:
    """Image name to that of its pictures: without suffix, but with it where the suffix tells two images apart."""
    stems = Counter(os.path.splitext(name)[0] for name in names)
    whole = set(names)
    found = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        found[name] = name if stems[stem] > 1 or stem in whole else stem
    return found


def draw(
    image: np.ndarray, annotations: Sequence[dict[str, Any]], names: dict[int, str]
) -> np.ndarray:
    """The image with its objects; names: of the categories by id."""
    return overlay(
        image,
        [decode_mask(a["segmentation"]) for a in annotations if "segmentation" in a],
        [xywh_to_xyxy(a["bbox"]).tolist() for a in annotations],
        labels=[f"{names[a['category_id']]} {a['score']:.2f}" for a in annotations],
    )


def picture_paths(target: Path, name: str) -> tuple[Path, Path]:
    """Where the overlay and the label map go whose name is given."""
    return target / "overlays" / f"{name}.jpg", target / "sem_seg" / f"{name}.png"


def work(
    image: np.ndarray,
    predictor: Predictor,
    categories: Categories,
    threshold: float,
    target: Path,
    name: str,
) -> list[dict[str, Any]]:
    """Predicts one image, writes its pictures of this name below ``target``, and returns its annotations."""
    result = predictor(image)
    annotations: list[dict[str, Any]] = []
    overlay_path, label_path = picture_paths(target, name)
    if "instances" in result:
        annotations = to_annotations(result["instances"], categories, threshold)
        picture = draw(image, annotations, drawable_names(categories))
    elif "sem_seg" in result:
        label = result["sem_seg"].argmax(dim=0).to("cpu").numpy().astype(np.uint8)
        write_label(label_path, label)
        picture = overlay(image, [label == value for value in range(1, int(label.max()) + 1)])
    else:
        raise ConfigError(f"the model returns {', '.join(result)}, expected instances or sem_seg")
    with atomic_writer(overlay_path, "wb") as stream:
        Image.fromarray(picture).save(stream, format="JPEG", quality=92)
    return annotations


def predict(
    cfg: CfgNode, args: argparse.Namespace, root: Path, names: Sequence[str], categories: Categories
) -> int:
    """Works through the images; returns the exit status."""
    predictor = Predictor(cfg)
    provenance = prediction_provenance(cfg, categories, args.score_threshold)
    pictures = picture_names(names)
    failed = []
    with PredictionFolder(args.output, provenance, categories) as folder:
        paths = (path for name in pictures.values() for path in picture_paths(args.output, name))
        done = folder.start(args.resume, paths)
        left = [name for name in names if name not in done]
        with Progress("predict", len(left), "images") as progress:
            for name in left:
                try:
                    image = read_image(root / name, high_bit_depth=cfg.INPUT.HIGH_BIT_DEPTH)
                except UnreadableImageError as error:
                    folder.add_failure(name, str(error))
                    failed.append(str(error))
                else:
                    threshold = args.score_threshold
                    picture = pictures[name]
                    found = work(image, predictor, categories, threshold, args.output, picture)
                    folder.add(name, image.shape[:2], found)
                progress.advance()
        count = folder.finish(names)
    for reason in failed:
        sys.stderr.write(f"unreadable: {reason}\n")
    if len(failed) == len(names):
        raise DataError(f"{root}: none of {counted(len(names), 'image')} can be read; mend them")
    legend = [
        f"{shown} = {c['name']}"
        for c, shown in zip(categories, drawable_names(categories).values(), strict=True)
        if shown != c["name"]
    ]
    if legend:
        print(f"overlays: no font here has the letters of some classes: {', '.join(legend)}")
    images = len(names) - len(failed)
    found = f"{counted(count, 'object')} in {counted(images, 'image')}"
    print(f"{folder.path}: {found} below {root}")
    return 3 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Checks everything, then predicts; returns the exit status."""
    args = parse_args(argv)
    cfg = load_cfg(args.config_file, args.opts)
    apply_short_words(cfg, args)
    choose_device(cfg, args.opts)
    root, names = find_inputs(args.input, args.output)
    categories = resolve_categories(cfg, read_class_names(args.classes) if args.classes else ())
    with finished_is_kept(args.output):
        return predict(cfg, args, root, names, categories)


if __name__ == "__main__":
    run_tool(main)
