"""Score maps of earlier stages as what a later one starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.nn import functional

from wsis.data.build import dataset_source
from wsis.data.score_maps import ScoreMapReader, score_map_reader
from wsis.errors import ConfigError
from wsis.layers.seeds import fused
from wsis.structures import ScoreMaps, Seed

KEY = "DATASETS.CUSTOM_SCORE_MAPS"


@dataclass(frozen=True)
class SeedReader:
    """Reads one or several score maps of an image and joins them; picklable.

    Attributes:
        readers: of each kind of maps; all are of one data set.
    """

    readers: tuple[ScoreMapReader, ...]

    @classmethod
    def from_cfg(cls, cfg: CfgNode, names: Sequence[str]) -> SeedReader:
        """Of the one dataset of ``DATASETS.TRAIN``; every image of it must have the maps.

        Args:
            cfg: after :func:`wsis.data.registration.prepare_datasets`.
            names: of the score maps.

        Raises:
            ConfigError: not exactly one dataset, or it has no such maps.
            ConfigError, DataError: see :mod:`wsis.data.score_maps`.
        """
        datasets = cfg.DATASETS.TRAIN
        if len(datasets) != 1:
            raise ConfigError(
                f"DATASETS.TRAIN: found {list(datasets)}, expected one dataset: score maps belong to one"
            )
        readers = tuple(score_map_reader(cfg, datasets[0], name) for name in names)
        for reader in readers:
            reader.check(dataset_source(cfg, datasets[0]))
        return cls(readers)

    @property
    def inputs_sha256(self) -> dict[str, str]:
        """See :attr:`wsis.modeling.teacher.Maker.inputs_sha256`."""
        return {KEY: " ".join(reader.made_with for reader in self.readers)}

    def __call__(self, seed: Seed, stride: int) -> tuple[list[int], Tensor]:
        """The classes of an image and their scores.

        Args:
            seed: of the image.
            stride: of the grid; 1 = each pixel.

        Returns:
            K label values, ascending and without background, and (K, h, w) float32, the largest of each class 1.

        Raises:
            DataError: a file is missing or cut off, or not of this image.
        """
        record = {name: getattr(seed, name) for name in ("file_name", "height", "width")}
        found = [reader(record) for reader in self.readers]
        labels = sorted({int(each) for maps in found for each in maps.classes} - {0})
        return labels, fused(*(_of_classes(maps, labels, stride) for maps in found))


def _of_classes(maps: ScoreMaps, labels: Sequence[int], stride: int) -> Tensor:
    """Scores of all these classes on a grid, 0 of those that the maps do not have."""
    size = -(-maps.height // stride), -(-maps.width // stride)
    out = torch.zeros(len(labels), *size)
    rows = [row for row, label in enumerate(maps.classes) if label in labels]
    if rows:
        if maps.stride == stride:
            scores = torch.from_numpy(maps.scores)
        else:  # a cell is the mean of its pixels
            scores = functional.avg_pool2d(
                maps.enlarged(), stride, ceil_mode=True, count_include_pad=False
            )
        out[[labels.index(int(maps.classes[row])) for row in rows]] = scores[rows]
    return out
