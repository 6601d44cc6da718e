"""What loaders of semantic networks share: an image that went through one draw, and endless batches of crops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader

from wsis.config.params import read
from wsis.data.build import check_batch_size
from wsis.data.crop_transform import CropParams, CropTransform, draw_sample
from wsis.data.images import read_image
from wsis.data.mapper import image_options
from wsis.errors import ConfigError


@dataclass(frozen=True)
class CropReader:
    """Reads an image and cuts a crop out of it.

    Attributes:
        params: of the draw.
        image_format: "RGB" or "BGR".
        high_bit_depth: see :func:`wsis.data.images.read_image`.
    """

    params: CropParams
    image_format: str
    high_bit_depth: str

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> CropReader:
        """Reads ``INPUT``.

        Raises:
            ConfigError: a value out of its range.
        """
        return cls(read(cfg, CropParams), **image_options(cfg))

    def __call__(self, record: Mapping[str, Any]) -> tuple[torch.Tensor, CropTransform]:
        """The crop (3, h, w), float32 in 0 to 255 in ``image_format``, and what boxes and labels go through, too.

        Args:
            record: ``file_name``, ``height`` and ``width`` of the image.

        Raises:
            DataError: the image cannot be read or has another size.
        """
        size = record["height"], record["width"]
        image = read_image(record["file_name"], *size, self.high_bit_depth)
        side = self.params.size
        transform = CropTransform(size, (side, side), draw_sample(self.params))
        pixels = transform.image(image)
        if self.image_format == "BGR":
            pixels = pixels[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), transform


def build_loader(
    cfg: CfgNode, records: list[dict[str, Any]], mapper: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterable[list[dict[str, Any]]]:
    """Endless batches of ``SOLVER.IMS_PER_BATCH`` samples over all processes, drawn as ``DATALOADER.SAMPLER_TRAIN``
    says.

    Args:
        cfg: of the run.
        records: what is drawn from.
        mapper: record to sample.

    Raises:
        ConfigError: the batch cannot be shared out among the processes, or the sampler counts classes that the records
            do not have.
    """
    check_batch_size(cfg)
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    if sampler == "RepeatFactorTrainingSampler" and any("annotations" not in r for r in records):
        raise ConfigError(
            f"DATALOADER.SAMPLER_TRAIN: found {sampler!r}, which counts boxes or tags, and "
            f"{cfg.MODEL.META_ARCHITECTURE} trains on label maps; expected TrainingSampler"
        )
    return build_detection_train_loader(
        cfg, mapper=mapper, dataset=records, aspect_ratio_grouping=False
    )
