"""What a segmentor trains on: images with their label maps, all through one and the same draw."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable

from wsis.config.params import key, node, read
from wsis.data.build import dataset_source
from wsis.data.crop_loader import CropReader
from wsis.data.image_checks import check_image_files
from wsis.data.labels import (
    LabelReader,
    check_label_files,
    check_pseudo_labels,
    check_truth,
    read_label,
    truth_reader,
)
from wsis.data.registration import get_source, label_folders
from wsis.data.source import CocoSource
from wsis.errors import ConfigError, DataError, counted
from wsis.structures.pseudo_labels import IGNORE, label_path

logger = logging.getLogger(__name__)

Record = dict[str, Any]
"""``file_name``, ``height``, ``width`` of an image, and either ``labels``, a path of each, or ``truth``, the name of a
dataset, and ``image``, the image's entry in it.
"""


@node("MODEL.SEGMENTOR")
@dataclass(frozen=True)
class LabelledDataParams:
    """What a segmentor trains on.

    Attributes:
        labels: Names of the labels of the datasets in DATASETS.TRAIN, which are semantic ones
            (DATASETS.CUSTOM_SEM_SEG); one for "Segmentor" and "IRN", two for "BANASegmentor": y_crf and y_ret, of
            which the first is used, with a weight, where they differ.
        strong_datasets: Datasets whose true labels (a label folder, or the masks of instances) training may use, beside
            the pseudo labels of DATASETS.TRAIN; an image in both is taken from these. A name in both lists is an error.
            With WSIS.SUPERVISION "mask", for the upper bound, those of DATASETS.TRAIN are such datasets too.
    """

    labels: tuple[str, ...] = key(())
    strong_datasets: tuple[str, ...] = key(())


def check_labelled_data(cfg: CfgNode, num_labels: int) -> None:
    """Checks what a segmentor trains on, and the true labels of ``DATASETS.TEST``.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
        num_labels: that the loss takes.

    Raises:
        ConfigError, DataError: the training could not start, or not be scored at its end.
    """
    training_records(cfg, num_labels)
    LabelMapper(cfg)
    for name in _strong_names(cfg):
        check_image_files(get_source(name, bad_box="skip", need_boxes=False))
    for name in () if cfg.TEST.SAVE_LABELS else cfg.DATASETS.TEST:
        check_truth(name)


def training_records(cfg: CfgNode, num_labels: int) -> list[Record]:
    """The images of ``DATASETS.TRAIN`` with their pseudo labels, and of ``MODEL.SEGMENTOR.STRONG_DATASETS`` with true
    ones; with ``WSIS.SUPERVISION mask`` all have true ones.

    An image file that is in both is taken from the latter.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
        num_labels: that the loss takes.

    Raises:
        ConfigError: another number of labels, a name in both lists, a dataset without the labels, labels that no
            teacher made, or other classes.
        DataError: a label is missing or does not fit its image, or there is no image at all.
    """
    params = read(cfg, LabelledDataParams)
    if len(params.labels) != num_labels:
        raise ConfigError(
            f"MODEL.SEGMENTOR.LABELS: found {list(params.labels)}, expected {counted(num_labels, 'name')} for "
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}"
        )
    for name in cfg.DATASETS.TRAIN:
        if name in params.strong_datasets:
            raise ConfigError(
                f"MODEL.SEGMENTOR.STRONG_DATASETS: {name!r} is in DATASETS.TRAIN too; a dataset has either pseudo "
                "labels or true ones"
            )
    class_names = _class_names(cfg, dataset_source(cfg, cfg.DATASETS.TRAIN[0]))
    strong_names = _strong_names(cfg)
    strong = [record for name in strong_names for record in _strong(cfg, name, class_names)]
    known = {os.path.realpath(record["file_name"]) for record in strong}
    weak_names = [name for name in cfg.DATASETS.TRAIN if name not in strong_names]
    weak = [record for name in weak_names for record in _weak(cfg, name)]
    left = [record for record in weak if os.path.realpath(record["file_name"]) not in known]
    if not left and not strong:
        raise DataError(
            f"DATASETS.TRAIN: {', '.join(cfg.DATASETS.TRAIN)}: found no image, expected at least one to train on"
        )
    logger.info("%d images with pseudo labels, %d with true labels", len(left), len(strong))
    return left + strong


def _strong_names(cfg: CfgNode) -> tuple[str, ...]:
    """Datasets whose true labels are used."""
    trained = cfg.DATASETS.TRAIN if cfg.WSIS.SUPERVISION == "mask" else ()
    return (*trained, *cfg.MODEL.SEGMENTOR.STRONG_DATASETS)


def _class_names(cfg: CfgNode, source: CocoSource) -> list[str]:
    return ["object"] if cfg.DATASETS.CLASS_AGNOSTIC else source.class_names


def _weak(cfg: CfgNode, name: str) -> list[Record]:
    source, folders = dataset_source(cfg, name), label_folders(name)
    missing = [label for label in cfg.MODEL.SEGMENTOR.LABELS if label not in folders]
    if missing:
        raise ConfigError(
            f"DATASETS.TRAIN: {name!r} has no label {missing[0]!r}; name its folder in DATASETS.CUSTOM_SEM_SEG"
        )
    chosen = [folders[label] for label in cfg.MODEL.SEGMENTOR.LABELS]
    for folder in chosen:
        try:
            check_pseudo_labels(folder, _class_names(cfg, source))
        except ConfigError as error:
            raise ConfigError(
                f"DATASETS.TRAIN: {name!r}: {error}; to train on true labels name a dataset of them in "
                "MODEL.SEGMENTOR.STRONG_DATASETS"
            ) from error
        check_label_files(source, folder)
    return [
        _record(source, image)
        | {"labels": [str(label_path(folder, "", image["file_name"])) for folder in chosen]}
        for image in source.images
    ]


def _strong(cfg: CfgNode, name: str, class_names: list[str]) -> list[Record]:
    source = get_source(name, bad_box="skip", need_boxes=False)
    if _class_names(cfg, source) != class_names:
        raise ConfigError(
            f"MODEL.SEGMENTOR.STRONG_DATASETS: the classes of {name!r} are not those of DATASETS.TRAIN"
        )
    check_truth(name)
    return [_record(source, image) | {"truth": name, "image": image} for image in source.images]


def _record(source: CocoSource, image: Mapping[str, Any]) -> Record:
    return {
        "file_name": source.path_of(dict(image)),
        "height": image["height"],
        "width": image["width"],
    }


class LabelMapper:
    """Maps a record to one sample: ``image`` (3, h, w) float32 in 0 to 255 in ``INPUT.FORMAT``, and ``labels``
    (L, h, w) uint8, 255 in the padding. True labels stand for all L.

    Args:
        read: makes the crops.
        num_classes: C, background included.
        num_labels: L.
        truths: of the datasets with true labels, by name.
    """

    @configurable
    def __init__(
        self,
        *,
        read: CropReader,
        num_classes: int,
        num_labels: int,
        truths: Mapping[str, LabelReader],
    ) -> None:
        self.read = read
        self.num_classes, self.num_labels = num_classes, num_labels
        self.truths = truths

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.SEGMENTOR``, ``INPUT`` and ``MODEL.SEM_SEG_HEAD.NUM_CLASSES``."""
        agnostic = cfg.DATASETS.CLASS_AGNOSTIC
        return {
            "read": CropReader.from_cfg(cfg),
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "num_labels": len(cfg.MODEL.SEGMENTOR.LABELS),
            "truths": {name: truth_reader(name, agnostic) for name in _strong_names(cfg)},
        }

    def __call__(self, record: Record) -> dict[str, torch.Tensor]:
        """Reads and transforms one image and its labels.

        Raises:
            DataError: a file cannot be read, or does not fit.
        """
        image, transform = self.read(record)
        labels = [transform.label(label, IGNORE) for label in self._labels(record)]
        return {"image": image, "labels": torch.from_numpy(np.stack(labels))}

    def _labels(self, record: Record) -> list[np.ndarray]:
        if "truth" in record:
            return [self.truths[record["truth"]](record["image"])] * self.num_labels
        size = record["height"], record["width"]
        return [read_label(path, *size, self.num_classes) for path in record["labels"]]
