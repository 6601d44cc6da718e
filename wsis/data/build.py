"""Loaders: Detectron2's, fed with dicts that have passed the supervision guard."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.build import (
    filter_images_with_only_crowd_annotations,
    print_instances_class_histogram,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader

from wsis.data.classes import Categories, categories_of
from wsis.data.dicts import to_dicts
from wsis.data.mapper import WsisDatasetMapper
from wsis.data.plausible import no_object
from wsis.data.registration import get_source
from wsis.data.source import CocoSource
from wsis.errors import ConfigError, DataError, counted

Batches = Iterable[list[dict[str, Any]]]
logger = logging.getLogger(__name__)

Mapper = Callable[[dict[str, Any]], Any]


def training_dicts(cfg: CfgNode, supervision: str = "") -> list[dict[str, Any]]:
    """The images of `DATASETS.TRAIN`, with no more in them than `WSIS.SUPERVISION` allows.

    Without `DATALOADER.FILTER_EMPTY_ANNOTATIONS` images without objects are kept.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
        supervision: "image" for a method that wants no more than tags, whatever is allowed.

    Returns:
        Dicts of all datasets in turn, see :func:`wsis.data.dicts.to_dicts`.

    Raises:
        ConfigError: no dataset, or one that the supervision does not allow.
        DataError: a file is wrong, or nothing in it can be trained on.
    """
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN: found nothing, expected the name of a dataset")
    supervision = supervision or cfg.WSIS.SUPERVISION
    dicts = []
    for name in cfg.DATASETS.TRAIN:
        source = dataset_source(cfg, name)
        found = every = to_dicts(source, supervision, cfg.DATASETS.CLASS_AGNOSTIC)
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            found = filter_images_with_only_crowd_annotations(every)
        if supervision == "image" and len(found) < len(every):
            logger.warning(
                "%s: %s without tags left out; DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps such images as ones of "
                "no class",
                source.json_file,
                counted(len(every) - len(found), "image"),
            )
        if not found:
            raise DataError(
                f"{source.json_file}: nothing to train on: found {counted(len(source.images), 'image')} and "
                f"{counted(len(source.annotations), 'annotation')}, expected at least one image with an object: "
                f"{no_object(source) or 'no image has a class'}"
            )
        if supervision == "proxy":
            _warn_of_left_out(source, found)
        dicts += found
    class_names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes")
    if class_names:
        print_instances_class_histogram(dicts, class_names)
    return dicts


def _warn_of_left_out(source: CocoSource, dicts: list[dict[str, Any]]) -> None:
    """One line about the masks that the mask head will not learn from."""
    masks = [a for record in dicts for a in record["annotations"] if "segmentation" in a]
    left = sum(a.get("score", 1) == 0 and not a["iscrowd"] for a in masks)
    if left:
        logger.warning(
            "%s: %d of %s with a score of 0: left out of the mask loss",
            source.json_file,
            left,
            counted(len(masks), "mask"),
        )


def warn_if_alike(cfg: CfgNode, classes: Iterable[Collection[int]], noun: str, plural: str) -> None:
    """One line if a classifier has nothing to tell apart.

    Args:
        cfg: names the data.
        classes: of each sample.
        noun, plural: what a sample is.
    """
    kinds = Counter(map(frozenset, classes))
    if len(kinds) != 1:
        return
    ((one, number),) = kinds.items()
    logger.warning(
        "DATASETS.TRAIN: %s: all of %s %s the same %s: a classifier has nothing to tell apart, and its maps show "
        "nothing; add some of another class or of none, or take a method that needs no classes (docs/choosing.md)",
        ", ".join(cfg.DATASETS.TRAIN),
        counted(number, noun, plural),
        "have" if number > 1 else "has",
        "class" if len(one) == 1 else "classes",
    )


def check_training_data(cfg: CfgNode) -> None:
    """Checks what :func:`build_train_loader` would load.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.

    Raises:
        ConfigError, DataError: as it would.
    """
    WsisDatasetMapper(cfg, is_train=True)
    training_dicts(cfg)


def build_train_loader(cfg: CfgNode, keep_transforms: bool = False) -> Batches:
    """Endless batches of `SOLVER.IMS_PER_BATCH` images over all processes, for a detector or student.

    The order of images and the augmentations follow from the state of the random generators, which
    `detectron2.engine.default_setup` sets from `SEED`, and from `DATALOADER.NUM_WORKERS`.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
        keep_transforms: see :class:`wsis.data.mapper.WsisDatasetMapper`; samples have their image's ``position``, too.

    Raises:
        ConfigError, DataError: see :func:`training_dicts` and
            :class:`wsis.data.mapper.WsisDatasetMapper`.
    """
    check_batch_size(cfg)
    mapper = WsisDatasetMapper(cfg, is_train=True, keep_transforms=keep_transforms)
    dicts = training_dicts(cfg)
    if keep_transforms:
        dicts = [{**record, "position": position} for position, record in enumerate(dicts)]
    return build_detection_train_loader(cfg, mapper=mapper, dataset=dicts)


def check_batch_size(cfg: CfgNode) -> None:
    """Checks that `SOLVER.IMS_PER_BATCH` can be shared out among the processes.

    Raises:
        ConfigError: it cannot.
    """
    processes = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.IMS_PER_BATCH % processes:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH: found {cfg.SOLVER.IMS_PER_BATCH}, expected a multiple of the "
            f"{counted(processes, 'process', 'processes')}"
        )


def build_test_loader(cfg: CfgNode, name: str, mapper: Mapper) -> DataLoader:
    """The images of one dataset in its order, each once over all processes.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
        name: the dataset.
        mapper: of its dicts, with boxes (none with ``WSIS.SUPERVISION image``) and no masks, to the model's input.

    Raises:
        ConfigError: unknown dataset.
        DataError: a file is wrong or has no image.
    """
    source = dataset_source(cfg, name)
    supervision = "image" if cfg.WSIS.SUPERVISION == "image" else "box"
    dicts = to_dicts(source, supervision, cfg.DATASETS.CLASS_AGNOSTIC)
    if not dicts:
        raise DataError(
            f"{source.json_file}: key 'images': the list is empty, expected an image; list them"
        )
    return build_detection_test_loader(dicts, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)


def training_categories(cfg: CfgNode) -> Categories:
    """The classes that `DATASETS.TRAIN` teaches.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
    """
    if not cfg.DATASETS.TRAIN:
        return []
    return categories_of(dataset_source(cfg, cfg.DATASETS.TRAIN[0]), cfg.DATASETS.CLASS_AGNOSTIC)


def dataset_source(cfg: CfgNode, name: str) -> CocoSource:
    """The file behind a dataset, as :func:`wsis.data.registration.prepare_datasets` has read it."""
    training = name in cfg.DATASETS.TRAIN
    return get_source(
        name,
        bad_box=cfg.DATASETS.BAD_BOX if training else "skip",
        need_boxes=cfg.WSIS.SUPERVISION != "image",
    )
