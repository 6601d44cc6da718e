"""What stage 1 trains on: crops with their boxes and the certain background around these (spec 4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import build_detection_train_loader
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from wsis.data.build import training_dicts
from wsis.data.images import read_image
from wsis.errors import ConfigError
from wsis.methods.bana.config import check_keys, sample_params
from wsis.methods.bana.samples import (
    CropTransform,
    SampleParams,
    certain_background,
    draw_sample,
    shift_near_edges,
)


class CropMapper:
    """Maps a dataset dict to one sample: ``image`` (3, h, w) float32 in 0 to 255 in ``INPUT.FORMAT``, ``background``
    (h, w) uint8 (0 in the padding), and ``instances`` with ``gt_boxes`` and ``gt_classes`` of what the crop shows.

    A crowd is no object, and its box is no background.

    Args:
        params: of the draw.
        image_format: "RGB" or "BGR".
        high_bit_depth: see :func:`wsis.data.images.read_image`.
        legacy_box_shift: see :func:`wsis.methods.bana.samples.shift_near_edges`.
    """

    @configurable
    def __init__(
        self,
        *,
        params: SampleParams,
        image_format: str,
        high_bit_depth: str,
        legacy_box_shift: bool = False,
    ) -> None:
        self.params = params
        self.image_format = image_format
        self.high_bit_depth = high_bit_depth
        self.legacy_box_shift = legacy_box_shift

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BANA`` and ``INPUT``."""
        check_keys(cfg.MODEL.BANA)
        return {
            "params": sample_params(cfg.MODEL.BANA),
            "image_format": cfg.INPUT.FORMAT,
            "high_bit_depth": cfg.INPUT.HIGH_BIT_DEPTH,
            "legacy_box_shift": cfg.MODEL.BANA.LEGACY_BOX_SHIFT,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads and transforms one image and its boxes.

        Args:
            dataset_dict: as :func:`wsis.data.dicts.to_dicts` makes it; not changed.

        Raises:
            DataError: the image cannot be read or has another size.
        """
        size = dataset_dict["height"], dataset_dict["width"]
        image = read_image(dataset_dict["file_name"], *size, self.high_bit_depth)
        annotations = [a for a in dataset_dict["annotations"] if "bbox" in a]
        boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        if self.legacy_box_shift:
            boxes = shift_near_edges(boxes)
        side = self.params.crop_size
        transform = CropTransform(size, (side, side), draw_sample(self.params))
        background = transform.label(certain_background(boxes, *size), 0)
        pixels = transform.image(image)
        if self.image_format == "BGR":
            pixels = pixels[:, :, ::-1]
        objects = np.array([not a.get("iscrowd") for a in annotations], dtype=bool)
        classes = np.array([a["category_id"] for a in annotations], dtype=np.int64)[objects]
        found, seen = transform.boxes(boxes[objects])
        instances = Instances((side, side))
        instances.gt_boxes = Boxes(torch.from_numpy(found))
        instances.gt_classes = torch.from_numpy(classes[seen])
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            "background": torch.from_numpy(background),
            "instances": instances,
        }


def build_crop_loader(cfg: CfgNode) -> Iterable[list[dict[str, Any]]]:
    """Endless batches of ``SOLVER.IMS_PER_BATCH`` samples over all processes.

    Raises:
        ConfigError, DataError: see :func:`wsis.data.build.training_dicts`.
    """
    processes = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.IMS_PER_BATCH % processes:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH: found {cfg.SOLVER.IMS_PER_BATCH}, expected a multiple of the {processes} processes"
        )
    return build_detection_train_loader(
        training_dicts(cfg),
        mapper=CropMapper(cfg),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
