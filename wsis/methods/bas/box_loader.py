"""Crops of boxes with their class: what box mode trains on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from numpy.typing import ArrayLike

from wsis.config.params import read
from wsis.data.build import training_dicts
from wsis.data.crops import context_windows, padded_crop
from wsis.data.images import read_image
from wsis.data.mapper import image_options
from wsis.errors import DataError
from wsis.methods.bas.config import BASBoxParams


def box_records(cfg: CfgNode) -> list[dict[str, Any]]:
    """One record for each box of ``DATASETS.TRAIN`` that is large enough: that of its image with ``box`` and ``class``.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.

    Raises:
        DataError: a file is wrong, or there is no such box.
    """
    least = read(cfg, BASBoxParams).min_side
    records = []
    for record in training_dicts(cfg):
        image = {name: record[name] for name in ("file_name", "height", "width")}
        for annotation in record["annotations"]:
            x0, y0, x1, y1 = annotation.get("bbox", (0, 0, 0, 0))
            if not annotation["iscrowd"] and min(x1 - x0, y1 - y0) >= least:
                own = {"box": (x0, y0, x1, y1), "class": annotation["category_id"]}
                records.append(image | own)
    if not records:
        raise DataError(
            f"DATASETS.TRAIN {', '.join(cfg.DATASETS.TRAIN)}: found no box with sides of at least {least:g} pixels, "
            "expected one at least (MODEL.BAS_BOX.MIN_SIDE)"
        )
    return records


def cropped(
    image: np.ndarray, windows: np.ndarray, size: int, colour: Sequence[float], image_format: str
) -> torch.Tensor:
    """Crops of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        windows: (N, 4) integers XYXY.
        size: S.
        colour: of what lies beyond the image, in ``image_format``.
        image_format: "RGB" or "BGR", of the result.

    Returns:
        (N, 3, S, S) float32 in 0 to 255.
    """
    turned = image if image_format == "RGB" else image[:, :, ::-1]
    crops = np.stack([padded_crop(turned, window, size, colour) for window in windows])
    return torch.from_numpy(crops.transpose(0, 3, 1, 2).astype(np.float32))


def in_windows(boxes: ArrayLike, windows: ArrayLike) -> torch.Tensor:
    """Boxes (N, 4) XYXY in units of the sides of their windows, which are (N, 4) XYXY, too."""
    corners, around = (np.asarray(each, np.float64).reshape(-1, 4) for each in (boxes, windows))
    near, sides = around[:, :2], around[:, 2:] - around[:, :2]
    return torch.from_numpy((corners - np.tile(near, 2)) / np.tile(sides, 2)).float()


class BoxCropMapper:
    """Maps a record of :func:`box_records` to one sample: ``image`` (3, S, S) float32 in 0 to 255 in ``INPUT.FORMAT``,
    ``tags`` (C,) with a 1 at the box's class, ``box`` (4,) XYXY in units of the crop's sides.

    Args:
        params: size and context of the crops.
        num_classes: C.
        padding: colour beyond the image, in ``image_format``.
        image_format: "RGB" or "BGR".
        high_bit_depth: see :func:`wsis.data.images.read_image`.
    """

    @configurable
    def __init__(
        self,
        *,
        params: BASBoxParams,
        num_classes: int,
        padding: Sequence[float],
        image_format: str,
        high_bit_depth: str,
    ) -> None:
        self.params, self.num_classes, self.padding = params, num_classes, tuple(padding)
        self.image_format, self.high_bit_depth = image_format, high_bit_depth

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BAS_BOX``, ``MODEL.PIXEL_MEAN``, ``MODEL.ROI_HEADS.NUM_CLASSES`` and ``INPUT``."""
        return {
            "params": read(cfg, BASBoxParams),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "padding": cfg.MODEL.PIXEL_MEAN,
            **image_options(cfg),
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Reads an image and cuts a crop around the box, mirrored every other time.

        Args:
            record: of :func:`box_records`.

        Raises:
            DataError: the image cannot be read or has another size.
        """
        low, high = self.params.context_range
        draw = torch.rand(2).tolist()
        (window,) = context_windows(record["box"], low + draw[0] * (high - low))
        size = record["height"], record["width"]
        image = read_image(record["file_name"], *size, self.high_bit_depth)
        args = self.params.size, self.padding, self.image_format
        (crop,) = cropped(image, window[None], *args)
        (box,) = in_windows(record["box"], window)
        if draw[1] < 0.5:
            crop, box = crop.flip(-1), torch.stack([1 - box[2], box[1], 1 - box[0], box[3]])
        tags = torch.zeros(self.num_classes)
        tags[record["class"]] = 1
        return {"image": crop, "tags": tags, "box": box}
