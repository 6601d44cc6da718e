"""The datasets of a run: made ready, looked at before any work, known alike to all its processes."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from wsis.data.build import dataset_source, training_categories
from wsis.data.classes import CLASSES_FILE, Categories, matched, names_of
from wsis.data.image_checks import BAD_IMAGE_CURE, check_image_files
from wsis.data.plausible import doubts, no_object
from wsis.data.registration import (
    get_source,
    label_folders,
    leave_out,
    prepare_datasets,
    register_custom,
)
from wsis.engine.checkpoint import trained_categories
from wsis.errors import DataError, counted
from wsis.evaluation.build import check_evaluation
from wsis.modeling.method import method_of
from wsis.structures.proxy_file import write_json_atomic

logger = logging.getLogger(__name__)

Purpose = Literal["train", "test", "generate"]


def dataset_names(cfg: CfgNode, purpose: Purpose) -> list[str]:
    """Those that a run of a purpose uses."""
    names = list(cfg.DATASETS.TEST if purpose == "test" else cfg.DATASETS.TRAIN)
    if purpose == "train" and names:
        names += cfg.DATASETS.TEST
    return names


def prepare(cfg: CfgNode, args: argparse.Namespace, purpose: Purpose) -> None:
    """Prepares the datasets of a run; where its weights know their classes, so do the datasets.

    Raises:
        ConfigError, DataError: see :func:`wsis.data.registration.prepare_datasets` and
            :meth:`wsis.modeling.method.Method.match_classes`.
    """
    names = dataset_names(cfg, purpose)
    resume = purpose != "generate" and args.resume
    trained: Categories | None = None
    if not cfg.DATASETS.CLASS_AGNOSTIC and (purpose == "train" or not method_of(cfg).class_free):
        trained = trained_categories(cfg, resume) or None
    known = names_of(trained or [])
    if trained is not None and (purpose == "generate" or (purpose == "train" and not resume)):
        # a teacher may do with other classes than it knows, and pretrained weights be of anything
        register_custom(cfg)
        source = get_source(names[0], bad_box="later", need_boxes=False)
        same = matched(source, trained)
        if same is None or (purpose == "train" and len(source.categories) < len(trained)):
            trained = None
    prepare_datasets(cfg, names, trained)
    if purpose != "train":
        own = MetadataCatalog.get(names[0]).thing_classes if trained is None else known
        method_of(cfg).match_classes(cfg, own, known)


def check_data(cfg: CfgNode, names: Sequence[str], purpose: Purpose) -> dict[str, list[int | str]]:
    """Looks at files and images of the datasets of a run.

    Returns:
        Images by dataset that cannot be read and are left out of training; they are taken out of the datasets already.

    Raises:
        ConfigError, DataError: there is nothing to work on, or something that ``cfg`` does not tolerate.
    """
    left_out: dict[str, list[int | str]] = {}
    for key in ("TRAIN", "TEST"):
        for name, number in Counter(cfg.DATASETS[key]).items():
            if number > 1 and purpose != "generate":
                logger.warning(
                    "DATASETS.%s names %r %d times: it counts so often", key, name, number
                )
    for name in dict.fromkeys(names):
        source = dataset_source(cfg, name)
        if purpose == "generate" and no_object(source):
            raise DataError(f"{source.json_file}: nothing to make masks for: {no_object(source)}")
        skip = (
            purpose == "train" and name in cfg.DATASETS.TRAIN and cfg.DATASETS.BAD_IMAGE == "skip"
        )
        tolerated = skip or purpose == "generate"
        pixels = "all" if skip else "none" if tolerated else "end"
        cure = {"cure": BAD_IMAGE_CURE} if name in cfg.DATASETS.TRAIN else {}
        unreadable = check_image_files(source, tolerated, pixels=pixels, **cure)
        if skip and unreadable:
            images = counted(len(unreadable), "image")
            source.tell(
                f"{images} left out of training, the first: {next(iter(unreadable.values()))}"
            )
            left_out[name] = list(unreadable)
            leave_out(name, left_out[name])
        if not label_folders(name):
            masks = (
                cfg.PROXY.KEEP_TRUE_MASKS if purpose == "generate" else name in cfg.DATASETS.TEST
            )
            masks = masks or cfg.WSIS.SUPERVISION == "mask"
            teacher = "wsis" in source.info
            for line in doubts(source.images, source.annotations, masks, teacher):
                source.tell(line)
        if purpose != "generate" and name in cfg.DATASETS.TEST:
            check_evaluation(cfg, name)
    if purpose == "train":
        _tell_overlap(cfg)
    return left_out


def _tell_overlap(cfg: CfgNode) -> None:
    """Says which of the images to score on are trained on."""

    def paths(name: str) -> list[str]:
        source = dataset_source(cfg, name)
        root = os.path.realpath(source.image_root)  # once, as it asks the disk
        return [os.path.normpath(os.path.join(root, each["file_name"])) for each in source.images]

    trained = {path for name in cfg.DATASETS.TRAIN for path in paths(name)}
    for name in dict.fromkeys(cfg.DATASETS.TEST):
        found = paths(name)
        number = len(trained.intersection(found))
        if number:
            dataset_source(cfg, name).tell(
                f"{number} of {counted(len(found), 'image')} in DATASETS.TEST {'is' if number == 1 else 'are'} trained "
                "on, too: the scores say little about other images"
            )


def remember_data(cfg: CfgNode, resume: bool) -> None:
    """Writes the classes and the SHA-256 of the files of a training into its folder. What goes on with another file
    than it began with says so.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(cfg.OUTPUT_DIR, CLASSES_FILE)
    sources = [dataset_source(cfg, name) for name in dict.fromkeys(cfg.DATASETS.TRAIN)]
    files = {"sha256": [source.sha256 for source in sources]}
    before: Any = None
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(path.read_text(encoding="utf-8"))
    if (
        resume
        and isinstance(before, dict)
        and before.get("sha256", files["sha256"]) != files["sha256"]
    ):
        sources[0].tell("the training goes on with another file than it began with")
    write_json_atomic(path, {"categories": training_categories(cfg), **files}, indent=2)


def leave_out_everywhere(args: argparse.Namespace) -> None:
    """Takes the images that :func:`check_data` has found unreadable, on any machine, out of this process's datasets.

    Args:
        args: ``left_out`` is what it has returned here.
    """
    everywhere: dict[str, set[int | str]] = defaultdict(set)
    for found in comm.all_gather(getattr(args, "left_out", {})):
        for name, image_ids in found.items():
            everywhere[name].update(image_ids)
    for name, image_ids in everywhere.items():
        leave_out(name, image_ids)
