"""What stage 1 trains on: crops with their boxes and the certain background around these."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Boxes, Instances

from wsis.data.crop_loader import CropReader
from wsis.layers.label_to_masks import union
from wsis.structures.boxes import box_to_slices, shift_near_edges


class CropMapper:
    """Maps a dataset dict to one sample: ``image`` (3, h, w) float32 in 0 to 255 in ``INPUT.FORMAT``, ``background``
    (h, w) uint8 (0 in the padding), and ``instances`` with ``gt_boxes`` and ``gt_classes`` of what the crop shows.

    A crowd is no object, and its box is no background.

    Args:
        read: makes the crops.
        legacy_box_shift: see :func:`wsis.structures.boxes.shift_near_edges`.
    """

    @configurable
    def __init__(self, *, read: CropReader, legacy_box_shift: bool = False) -> None:
        self.read = read
        self.legacy_box_shift = legacy_box_shift

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BANA`` and ``INPUT``."""
        return {
            "read": CropReader.from_cfg(cfg),
            "legacy_box_shift": cfg.MODEL.BANA.LEGACY_BOX_SHIFT,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads and transforms one image and its boxes.

        Args:
            dataset_dict: as :func:`wsis.data.dicts.to_dicts` makes it; not changed.

        Raises:
            DataError: the image cannot be read or has another size.
        """
        image, transform = self.read(dataset_dict)
        annotations = [a for a in dataset_dict["annotations"] if "bbox" in a]
        boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        if self.legacy_box_shift:
            boxes = shift_near_edges(boxes)
        touched = union([box_to_slices(box, *transform.size) for box in boxes], transform.size)
        background = transform.label((~touched).numpy().astype(np.uint8), 0)
        objects = np.array([not a.get("iscrowd") for a in annotations], dtype=bool)
        classes = np.array([a["category_id"] for a in annotations], dtype=np.int64)[objects]
        found, seen = transform.boxes(boxes[objects])
        instances = Instances(transform.crop)
        instances.gt_boxes = Boxes(torch.from_numpy(found))
        instances.gt_classes = torch.from_numpy(classes[seen])
        return {
            "image": image,
            "background": torch.from_numpy(background),
            "instances": instances,
        }
