"""What stage 3 trains on: images with two label maps that went through one and the same draw (spec 6)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import build_detection_train_loader
from detectron2.utils import comm

from wsis.data.build import dataset_source
from wsis.data.images import read_image
from wsis.data.registration import get_source, label_folders
from wsis.data.semantic import (
    LabelReader,
    check_label_files,
    check_pseudo_labels,
    merge_classes,
    read_label,
    truth_reader,
)
from wsis.data.source import CocoSource
from wsis.errors import ConfigError
from wsis.methods.bana.config import check_keys, sample_params
from wsis.methods.bana.nal import IGNORE
from wsis.methods.bana.samples import CropTransform, SampleParams, draw_sample
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
        DataError: a label is missing or does not fit its image.
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
    truth_reader(name)
    for folder in label_folders(name).values():
        check_label_files(source, folder)
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
        params: of the draw.
        num_classes: C, background included.
        image_format: "RGB" or "BGR".
        high_bit_depth: see :func:`wsis.data.images.read_image`.
        truths: of the datasets with true labels, by name.
        class_agnostic: all classes of true labels become 1.
    """

    @configurable
    def __init__(
        self,
        *,
        params: SampleParams,
        num_classes: int,
        image_format: str,
        high_bit_depth: str,
        truths: Mapping[str, LabelReader],
        class_agnostic: bool = False,
    ) -> None:
        self.params = params
        self.num_classes = num_classes
        self.image_format = image_format
        self.high_bit_depth = high_bit_depth
        self.truths = truths
        self.class_agnostic = class_agnostic

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BANA``, ``INPUT`` and ``MODEL.SEM_SEG_HEAD.NUM_CLASSES``."""
        keys = cfg.MODEL.BANA
        check_keys(keys)
        return {
            "params": sample_params(keys),
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "image_format": cfg.INPUT.FORMAT,
            "high_bit_depth": cfg.INPUT.HIGH_BIT_DEPTH,
            "truths": {name: truth_reader(name) for name in keys.STRONG_DATASETS},
            "class_agnostic": cfg.DATASETS.CLASS_AGNOSTIC,
        }

    def __call__(self, record: Record) -> dict[str, torch.Tensor]:
        """Reads and transforms one image and its labels.

        Raises:
            DataError: a file cannot be read, or does not fit.
        """
        size = record["height"], record["width"]
        image = read_image(record["file_name"], *size, self.high_bit_depth)
        side = self.params.crop_size
        transform = CropTransform(size, (side, side), draw_sample(self.params))
        pixels = transform.image(image)
        if self.image_format == "BGR":
            pixels = pixels[:, :, ::-1]
        labels = [transform.label(label, IGNORE) for label in self._labels(record)]
        y_crf, y_ret = (torch.from_numpy(label) for label in labels)
        channels_first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return {"image": torch.from_numpy(channels_first), "y_crf": y_crf, "y_ret": y_ret}

    def _labels(self, record: Record) -> list[np.ndarray]:
        if "truth" in record:
            label = self.truths[record["truth"]](record["image"])
            return [merge_classes(label) if self.class_agnostic else label] * 2
        size = record["height"], record["width"]
        return [read_label(path, *size, self.num_classes) for path in record["labels"]]


def build_label_pair_loader(cfg: CfgNode) -> Iterable[list[dict[str, torch.Tensor]]]:
    """Endless batches of ``SOLVER.IMS_PER_BATCH`` samples over all processes.

    Raises:
        ConfigError, DataError: see :func:`training_records`.
    """
    if cfg.SOLVER.IMS_PER_BATCH % comm.get_world_size():
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH: found {cfg.SOLVER.IMS_PER_BATCH}, expected a multiple of the "
            f"{comm.get_world_size()} processes"
        )
    return build_detection_train_loader(
        training_records(cfg),
        mapper=LabelPairMapper(cfg),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
