"""What AffinityNet trains on: crops of images, and the labels of their cells by score maps, of classes or of boxes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from detectron2.config import CfgNode
from torch.nn import functional

from wsis.config.params import read
from wsis.data.build import dataset_source
from wsis.data.crop_loader import CropReader
from wsis.data.crop_transform import CropParams, CropTransform
from wsis.data.score_maps import ScoreMapReader, score_map_reader
from wsis.errors import ConfigError, DataError
from wsis.layers.seeds import EPS, affinity_labels, power_background
from wsis.methods.icam.config import AffinityNetParams
from wsis.methods.icam.refiner import ICAM_MAP
from wsis.structures import ScoreMaps
from wsis.structures.boxes import box_to_slices
from wsis.structures.pseudo_labels import IGNORE

POWERS = 2.0, 4.0
"""Of the background of boxes; ICAM's maps of classes have the same."""
CLEAR = 0.8
"""A cell in several boxes is left out if the second one has a larger share than this of the best one's score."""
NUMBERS = 254
"""Of the boxes of an image; the next ones begin anew."""


@dataclass(frozen=True)
class CellMapper:
    """Maps a dataset dict to one sample: ``image`` (3, size, size), as :class:`wsis.data.crop_loader.CropReader` reads
    it, and ``cells`` (size / cell, size / cell) uint8, 0 = background and 255 = left out.

    Attributes:
        read: makes the crops.
        maps: readers of score maps.
        cell: side of a cell in pixels.
    """

    read: CropReader
    maps: tuple[ScoreMapReader, ...]
    cell: int

    @classmethod
    def from_cfg(cls, cfg: CfgNode, names: Sequence[str]) -> Self:
        """Reads ``MODEL.AFFINITY_NET``, ``INPUT`` and the score maps' folders of the one dataset of ``DATASETS.TRAIN``.

        Args:
            cfg: of the run.
            names: of the score maps.

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
        maps = tuple(score_map_reader(cfg, cfg.DATASETS.TRAIN[0], name) for name in names)
        return cls(CropReader.from_cfg(cfg), maps, params.cell)

    def check(self, cfg: CfgNode) -> None:
        """Checks that every image has its score maps.

        Raises:
            DataError: see :meth:`wsis.data.score_maps.ScoreMapReader.check`.
        """
        for reader in self.maps:
            reader.check(dataset_source(cfg, cfg.DATASETS.TRAIN[0]))

    def __call__(self, record: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Reads and transforms one image and its maps.

        Raises:
            DataError: a file cannot be read, or the maps do not fit each other.
        """
        image, transform = self.read(record)
        return {"image": image, "cells": self.cells(record, transform)}

    @abstractmethod
    def cells(self, record: dict[str, Any], transform: CropTransform) -> torch.Tensor:
        """The labels of a crop's cells."""

    def means(self, scores: torch.Tensor, transform: CropTransform) -> torch.Tensor:
        """Scores of all pixels (K, H, W) to means of the crop's cells; 0 where it is padded."""
        return functional.avg_pool2d(torch.from_numpy(transform.maps(scores.numpy())), self.cell)


class AffinityMapper(CellMapper):
    """Labels are classes, by the two maps ``MODEL.AFFINITY_NET.LOW`` and ``HIGH``."""

    def cells(self, record: dict[str, Any], transform: CropTransform) -> torch.Tensor:
        """See :class:`CellMapper`."""
        maps = [reader(record) for reader in self.maps]
        classes = maps[0].classes.tolist()
        if classes != maps[1].classes.tolist() or classes[:1] not in ([], [0]):
            raise DataError(
                f"{record['file_name']}: the score maps MODEL.AFFINITY_NET.LOW and HIGH are of the classes {classes} "
                f"and {maps[1].classes.tolist()}, expected the same ones with background (0)"
            )
        low, high = (self.means(_or_background(each), transform) for each in maps)
        return affinity_labels(low, high, classes[1:])


def _or_background(maps: ScoreMaps) -> torch.Tensor:
    """Of all pixels; an image without classes is background."""
    return maps.enlarged() if len(maps.classes) else torch.ones(1, maps.height, maps.width)


class BoxAffinityMapper(CellMapper):
    """Labels are the numbers of boxes, so that two objects of one class are different: by a box teacher's maps of
    classes, each divided by its largest value in the box. Outside of all boxes there is background.
    """

    def cells(self, record: dict[str, Any], transform: CropTransform) -> torch.Tensor:
        """See :class:`CellMapper`."""
        (reader,) = self.maps
        maps, boxes_of = reader(record), _boxes_of(record)
        missing = {kind + 1 for _, kind in boxes_of}.difference(maps.classes.tolist())
        if missing:
            raise DataError(
                f"{record['file_name']}: the score maps {ICAM_MAP!r} are of the classes {maps.classes.tolist()}, "
                f"expected those of all its boxes, {sorted(missing)} too; make them by a teacher of boxes"
            )
        own = scores_of_boxes(maps, boxes_of)
        backgrounds = [power_background(own, power) for power in POWERS]
        low, high, *boxes = self.means(torch.cat([*backgrounds, own]), transform)[:, None]
        labels = [1 + number % NUMBERS for number in range(len(boxes))]
        found = affinity_labels(torch.cat([low, *boxes]), torch.cat([high, *boxes]), labels)
        if len(boxes) > 1:
            best, second = torch.cat(boxes).topk(2, dim=0).values
            found[(found > 0) & (second > CLEAR * best)] = IGNORE
        return found


def _boxes_of(record: dict[str, Any]) -> list[tuple[np.ndarray, int]]:
    """Box, XYXY in pixels, and class of each object that is no crowd."""
    objects = [a for a in record["annotations"] if "bbox" in a and not a["iscrowd"]]
    return [(np.asarray(a["bbox"], dtype=np.float64), a["category_id"]) for a in objects]


def scores_of_boxes(maps: ScoreMaps, boxes: Sequence[tuple[np.ndarray, int]]) -> torch.Tensor:
    """Each box's share of its class's largest score in it, 0 outside: (K, H, W) in [0, 1]; without boxes one map of 0.

    Args:
        maps: of the classes of all boxes.
        boxes: XYXY in pixels, and the contiguous class.
    """
    pixels, rows = maps.enlarged(), {int(label): row for row, label in enumerate(maps.classes)}
    own = torch.zeros(max(1, len(boxes)), maps.height, maps.width)
    for number, (box, kind) in enumerate(boxes):
        window = box_to_slices(box, maps.height, maps.width)
        inside = pixels[(rows[kind + 1], *window)]
        own[(number, *window)] = inside / (inside.max() + EPS)
    return own
