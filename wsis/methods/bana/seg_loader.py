"""What stage 3 trains on: images with two label maps that went through one and the same draw (spec 6)."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable

from wsis.data.build import dataset_source
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
from wsis.errors import ConfigError, DataError
from wsis.methods.bana.crop_loader import CropReader
from wsis.methods.bana.nal import IGNORE
from wsis.structures.pseudo_labels import label_path

logger = logging.getLogger(__name__)

Record = dict[str, Any]
"""``file_name``, ``height``, ``width`` of an image, and either ``labels``, two paths, or ``truth``, the name of a
dataset, and ``image``, the image's entry in it.
"""


def training_records(cfg: CfgNode) -> list[Record]:
    """The images of ``DATASETS.TRAIN`` with their pseudo labels, and of ``MODEL.BANA.STRONG_DATASETS`` with true ones.

    An image file that is in both is taken from the latter.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.

    Raises:
        ConfigError: a name in both lists, a dataset without the labels, labels that no teacher made, or other classes.
        DataError: a label is missing or does not fit its image, or there is no image at all.
    """
    strong_names = list(cfg.MODEL.BANA.STRONG_DATASETS)
    for name in cfg.DATASETS.TRAIN:
        if name in strong_names:
            raise ConfigError(
                f"MODEL.BANA.STRONG_DATASETS: {name!r} is in DATASETS.TRAIN too; a dataset has either pseudo labels or "
                "true ones"
            )
    class_names = _class_names(cfg, dataset_source(cfg, cfg.DATASETS.TRAIN[0]))
    strong = [record for name in strong_names for record in _strong(cfg, name, class_names)]
    known = {os.path.realpath(record["file_name"]) for record in strong}
    weak = [record for name in cfg.DATASETS.TRAIN for record in _weak(cfg, name)]
    left = [record for record in weak if os.path.realpath(record["file_name"]) not in known]
    if not left and not strong:
        raise DataError(
            f"DATASETS.TRAIN: {', '.join(cfg.DATASETS.TRAIN)}: found no image, expected at least one to train on"
        )
    logger.info("%d images with pseudo labels, %d with true labels", len(left), len(strong))
    return left + strong


def _class_names(cfg: CfgNode, source: CocoSource) -> list[str]:
    return ["object"] if cfg.DATASETS.CLASS_AGNOSTIC else source.class_names


def _weak(cfg: CfgNode, name: str) -> list[Record]:
    source, folders = dataset_source(cfg, name), label_folders(name)
    missing = [label for label in cfg.MODEL.BANA_SEG.LABELS if label not in folders]
    if missing:
        raise ConfigError(
            f"DATASETS.TRAIN: {name!r} has no label {missing[0]!r}; name its folder in DATASETS.CUSTOM_SEM_SEG"
        )
    chosen = [folders[label] for label in cfg.MODEL.BANA_SEG.LABELS]
    for folder in chosen:
        try:
            check_pseudo_labels(folder, _class_names(cfg, source))
        except ConfigError as error:
            raise ConfigError(
                f"DATASETS.TRAIN: {name!r}: {error}; to train on true labels name a dataset of them in "
                "MODEL.BANA.STRONG_DATASETS"
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
            f"MODEL.BANA.STRONG_DATASETS: the classes of {name!r} are not those of DATASETS.TRAIN"
        )
    check_truth(name)
    return [_record(source, image) | {"truth": name, "image": image} for image in source.images]


def _record(source: CocoSource, image: Mapping[str, Any]) -> Record:
    return {
        "file_name": source.path_of(dict(image)),
        "height": image["height"],
        "width": image["width"],
    }


class LabelPairMapper:
    """Maps a record to one sample: ``image`` (3, h, w) float32 in 0 to 255 in ``INPUT.FORMAT``, and ``y_crf`` and
    ``y_ret`` (h, w) uint8, 255 in the padding. True labels stand for both.

    Args:
        read: makes the crops.
        num_classes: C, background included.
        truths: of the datasets with true labels, by name.
    """

    @configurable
    def __init__(
        self,
        *,
        read: CropReader,
        num_classes: int,
        truths: Mapping[str, LabelReader],
    ) -> None:
        self.read = read
        self.num_classes = num_classes
        self.truths = truths

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BANA``, ``INPUT`` and ``MODEL.SEM_SEG_HEAD.NUM_CLASSES``."""
        agnostic = cfg.DATASETS.CLASS_AGNOSTIC
        return {
            "read": CropReader.from_cfg(cfg),
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "truths": {n: truth_reader(n, agnostic) for n in cfg.MODEL.BANA.STRONG_DATASETS},
        }

    def __call__(self, record: Record) -> dict[str, torch.Tensor]:
        """Reads and transforms one image and its labels.

        Raises:
            DataError: a file cannot be read, or does not fit.
        """
        image, transform = self.read(record)
        labels = [transform.label(label, IGNORE) for label in self._labels(record)]
        y_crf, y_ret = (torch.from_numpy(label) for label in labels)
        return {"image": image, "y_crf": y_crf, "y_ret": y_ret}

    def _labels(self, record: Record) -> list[np.ndarray]:
        if "truth" in record:
            return [self.truths[record["truth"]](record["image"])] * 2
        size = record["height"], record["width"]
        return [read_label(path, *size, self.num_classes) for path in record["labels"]]
