#!/usr/bin/env python3
"""Every check of a dataset without using it: what it has, and all that is wrong with it, at once.

    python tools/check_dataset.py --json a.json [--images DIR] [--val-json v.json] [--bad-box skip] [--tags]
    python tools/check_dataset.py --config-file configs/... [KEY VALUE ...]       DATASETS.TRAIN and DATASETS.TEST

Image files are decoded, unless --no-images says not to. --json-output has everything, for other programs.

Exit status: 0 fine; 2 something is wrong; 3 nothing but image files that are missing or cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from wsis.config import get_cfg, load_cfg
from wsis.data.advice import advice
from wsis.data.inspection import DatasetReport, inspect_file, inspect_images
from wsis.data.registration import prepare_datasets, register_custom
from wsis.engine import apply_short_words, output_path, run_tool
from wsis.engine.progress import Progress
from wsis.errors import ConfigError, WsisError, counted
from wsis.structures.proxy_file import write_json_atomic

SHOWN = 50
"""Lines of one kind that are printed; the JSON file has all."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line (default ``sys.argv[1:]``)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", metavar="JSON", help="COCO file")
    add("--images", default="", metavar="DIR", help="folder of its images")
    add("--val-json", metavar="JSON", help="another COCO file, which needs the same classes")
    add("--val-images", metavar="DIR", help="folder of its images (--images)")
    add("--bad-box", choices=("error", "skip"), default="error", help="DATASETS.BAD_BOX")
    add("--tags", action="store_true", help="annotations may lack boxes")
    add("--config-file", metavar="FILE", help="check the datasets of this config instead")
    add("--no-images", action="store_true", help="leave the image files alone")
    add("--json-output", type=output_path, metavar="JSON", help="write everything to this file")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, at the end")
    args = parser.parse_args(argv)
    if (args.json is None) == (args.config_file is None):
        raise ConfigError("command line: expected either --json or --config-file")
    if args.config_file is not None and args.val_json is not None:
        raise ConfigError("command line: --val-json goes with --json")
    if args.opts and args.config_file is None:
        raise ConfigError(f"command line: {args.opts[0]!r}: config keys need --config-file")
    return args


def of_config(cfg: CfgNode) -> list[tuple[str, DatasetReport]]:
    """Reports of ``DATASETS.TRAIN`` and ``DATASETS.TEST``, by name.

    Raises:
        ConfigError: no dataset, or one without a COCO file.
    """
    register_custom(cfg)
    names = list(dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)))
    if not names:
        raise ConfigError("DATASETS.TRAIN: found nothing, expected the name of a dataset")
    reports = []
    for name in names:
        metadata = MetadataCatalog.get(name) if name in MetadataCatalog.list() else None
        if metadata is None or not metadata.get("json_file"):
            raise ConfigError(f"DATASETS: {name!r} is no dataset that has a COCO file")
        training = name in cfg.DATASETS.TRAIN
        report = inspect_file(
            metadata.json_file,
            metadata.get("image_root", ""),
            bad_box=cfg.DATASETS.BAD_BOX if training else "skip",
            need_boxes=cfg.WSIS.SUPERVISION != "image",
        )
        reports.append((name, report))
    if not any(report.problems for _, report in reports):
        try:
            prepare_datasets(cfg, names)
        except WsisError as error:  # classes that differ, or contradict a key
            reports[0][1].problems.append(str(error))
    return reports


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str] = ()) -> str:
    """Aligned text; the first column is never taken for numbers."""
    return tabulate(
        rows, headers=headers, tablefmt="plain", disable_numparse=[0] if headers else True
    )


def describe(facts: dict[str, Any]) -> str:
    """What a dataset has, as text."""
    if not facts:
        return ""
    images, boxes = facts["images"], facts["boxes"]
    rows = [
        ("images", f"{images['count']}, {images['without_boxes']} without a box"),
        ("annotations", f"{facts['annotations']}, {facts['crowds']} of them crowds"),
        ("masks", ", ".join(f"{kind}: {n}" for kind, n in facts["masks"].items()) or "none"),
    ]
    if facts["proxy_of"]:
        rows.append(("made by", facts["proxy_of"]))
    if "files" in facts:
        files = facts["files"]
        modes = ", ".join(f"{mode} {n}" for mode, n in sorted(files["modes"].items()))
        deep, rotated = files["more_than_8_bits"], files["rotated"]
        text = f"{files['read']} read; {modes or 'none'}; more than 8 bits: {deep}; rotated by EXIF: {rotated}"
        rows.append(("image files", text))
    sizes = [
        (name, *quantiles.values())
        for name, quantiles in (
            ("image width", images["width"]),
            ("image height", images["height"]),
            ("box width", boxes["width"]),
            ("box height", boxes["height"]),
            ("root of box area", boxes["square_root_of_area"]),
        )
        if quantiles
    ]
    parts = [table(rows)]
    if sizes:
        parts.append(table(sizes, ("pixels", *images["width"])))
    classes = [(c["name"], c["annotations"], c["images"]) for c in facts["classes"]]
    if classes:
        parts.append(table(classes, ("class", "annotations", "images")))
    return "\n\n".join(parts)


def print_report(name: str, report: DatasetReport) -> None:
    """Facts and notes on standard output, what is wrong on standard error."""
    print(f"\n{name}\n")
    print(describe(report.facts))
    for label, lines, stream in (
        ("note", report.notes, sys.stdout),
        ("error", report.problems, sys.stderr),
        ("unreadable", report.unreadable, sys.stderr),
    ):
        sys.stdout.flush()
        for line in lines[:SHOWN]:
            stream.write(f"{label}: {line}\n")
        if len(lines) > SHOWN:
            stream.write(f"{label}: {len(lines) - SHOWN} more; --json-output FILE has all\n")
    problems = counted(len(report.problems), "problem")
    print(f"{name}: {problems}, {counted(len(report.unreadable), 'unreadable image')}")
    line = "" if report.exit_status else advice(report.facts)
    if line:
        print(f"next: {line}; docs/choosing.md says why")


def main(argv: Sequence[str] | None = None) -> int:
    """Checks and prints; returns the exit status."""
    args = parse_args(argv)
    if args.config_file is not None:
        reports = of_config(load_cfg(args.config_file, args.opts))
    elif args.val_json is not None or args.val_images is not None:
        cfg = get_cfg()
        cfg.DATASETS.BAD_BOX = args.bad_box
        cfg.WSIS.SUPERVISION = "image" if args.tags else cfg.WSIS.SUPERVISION
        apply_short_words(cfg, args)
        reports = of_config(cfg)
    else:
        options = {"bad_box": args.bad_box, "need_boxes": not args.tags}
        reports = [(args.json, inspect_file(args.json, args.images, **options))]
    for name, report in reports:
        if report.images and not args.no_images:
            with Progress(name, len(report.images), "images") as progress:
                for _ in inspect_images(report):
                    progress.advance()
        print_report(name, report)
    if args.json_output:
        keys = ("json_file", "image_root", "facts", "notes")
        keys += ("problems", "every_problem", "unreadable")
        written = {name: {k: getattr(report, k) for k in keys} for name, report in reports}
        write_json_atomic(args.json_output, written, indent=2)
    statuses = {report.exit_status for _, report in reports}
    return 2 if 2 in statuses else max(statuses)


if __name__ == "__main__":
    run_tool(main)
