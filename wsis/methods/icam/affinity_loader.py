"""What AffinityNet trains on: crops of images, and of their score maps with a weak and a strong background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from torch.nn import functional

from wsis.config.params import read
from wsis.data.build import dataset_source
from wsis.data.crop_loader import CropReader
from wsis.data.crop_transform import CropParams, CropTransform
from wsis.data.score_maps import ScoreMapReader, score_map_reader
from wsis.errors import ConfigError, DataError
from wsis.layers.seeds import affinity_labels
from wsis.methods.icam.config import AffinityNetParams
from wsis.structures import ScoreMaps


@dataclass(frozen=True)
class AffinityMapper:
    """Maps a dataset dict to one sample: ``image`` (3, size, size), as :class:`wsis.data.crop_loader.CropReader` reads
    it, and ``cells`` (size / cell, size / cell) uint8, their classes, 0 = background and 255 = left out.

    Attributes:
        read: makes the crops.
        low, high: readers of the maps with a weak and with a strong background.
        cell: side of a cell in pixels.
    """

    read: CropReader
    low: ScoreMapReader
    high: ScoreMapReader
    cell: int

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> AffinityMapper:
        """Reads ``MODEL.AFFINITY_NET``, ``INPUT`` and the score maps' folders of the one dataset of ``DATASETS.TRAIN``.

        Raises:
            ConfigError: a value out of its range, or not exactly one dataset.
            ConfigError, DataError: see :func:`wsis.data.score_maps.score_map_reader`.
        """
        params, size = read(cfg, AffinityNetParams), read(cfg, CropParams).size
        if size % params.cell:
            raise ConfigError(
                f"INPUT.SCALED_CROP.SIZE: found {size}, expected a multiple of the {params.cell} of "
                "MODEL.AFFINITY_NET.CELL"
            )
        if len(cfg.DATASETS.TRAIN) != 1:
            raise ConfigError(
                f"DATASETS.TRAIN: found {list(cfg.DATASETS.TRAIN)}, expected one dataset: score maps belong to one"
            )
        low, high = (
            score_map_reader(cfg, cfg.DATASETS.TRAIN[0], name) for name in (params.low, params.high)
        )
        return cls(CropReader.from_cfg(cfg), low, high, params.cell)

    def check(self, cfg: CfgNode) -> None:
        """Checks that every image has its score maps.

        Raises:
            DataError: see :meth:`wsis.data.score_maps.ScoreMapReader.check`.
        """
        for reader in (self.low, self.high):
            reader.check(dataset_source(cfg, cfg.DATASETS.TRAIN[0]))

    def __call__(self, record: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Reads and transforms one image and its maps.

        Raises:
            DataError: a file cannot be read, or both maps are not of the same classes.
        """
        image, transform = self.read(record)
        maps = self.low(record), self.high(record)
        classes = maps[0].classes.tolist()
        if classes != maps[1].classes.tolist() or classes[:1] not in ([], [0]):
            raise DataError(
                f"{record['file_name']}: the score maps MODEL.AFFINITY_NET.LOW and HIGH are of the classes {classes} "
                f"and {maps[1].classes.tolist()}, expected the same ones with background (0)"
            )
        low, high = (self._cells(each, transform) for each in maps)
        return {"image": image, "cells": affinity_labels(low, high, classes[1:])}

    def _cells(self, maps: ScoreMaps, transform: CropTransform) -> torch.Tensor:
        """Means of the crop's pixels; an image without classes is background."""
        scores = maps.enlarged() if len(maps.classes) else torch.ones(1, maps.height, maps.width)
        return functional.avg_pool2d(torch.from_numpy(transform.maps(scores.numpy())), self.cell)
