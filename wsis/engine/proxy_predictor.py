"""A teacher for one image at a time, in a notebook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BoxMode, Instances
from torch import nn

from wsis.data.mapper import TeacherDatasetMapper
from wsis.engine.checkpoint import WsisCheckpointer
from wsis.engine.launch import check_device
from wsis.errors import ConfigError, DataError
from wsis.modeling.teacher import is_teacher
from wsis.structures.boxes import clip_boxes


def load_model(cfg: CfgNode) -> nn.Module:
    """A model in eval mode, with its ``MODEL.WEIGHTS``.

    Raises:
        ConfigError: no such device, or the weights are missing or do not fit.
    """
    check_device(cfg.MODEL.DEVICE)
    model = build_model(cfg).eval()
    if model.state_dict():
        WsisCheckpointer(model, strict=True, save_to_disk=False).load(cfg.MODEL.WEIGHTS)
    return model


class ProxyPredictor:
    """Masks for the boxes of an image.

    Args:
        cfg: of a teacher, with its ``MODEL.WEIGHTS`` and, if it has a class head, its
            ``NUM_CLASSES``; not changed.

    Raises:
        ConfigError: not a teacher, no such device, or the weights are missing or do not fit.
    """

    def __init__(self, cfg: CfgNode) -> None:
        if not is_teacher(cfg):
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} is no teacher"
            )
        self.model = load_model(cfg)
        self.mapper = TeacherDatasetMapper(cfg, keep_original=True)

    def __call__(
        self,
        image: np.ndarray,
        boxes: Sequence[Sequence[float]] | np.ndarray,
        classes: Sequence[int] | None = None,
    ) -> Instances:
        """Makes one mask per box.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (N, 4) XYXY in pixels; cut to the image.
            classes: N contiguous class indices, default 0.

        Returns:
            See :meth:`wsis.structures.ProxyMasks.to_instances`: ``pred_masks`` (N, H, W) bool,
            ``scores``, ``status``, ...

        Raises:
            DataError: the image or a box is not of this form.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(f"image: found {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
        height, width = image.shape[:2]
        given = _as_boxes(boxes)
        classes = [0] * len(given) if classes is None else [int(c) for c in classes]
        if len(classes) != len(given):
            raise DataError(f"classes: found {len(classes)}, expected {len(given)}, one per box")
        if min(classes, default=0) < 0:
            raise DataError(f"classes: found {min(classes)}, expected at least 0")
        clipped = clip_boxes(given, height, width)
        bad = np.flatnonzero(~((clipped[:, 2:] > clipped[:, :2]).all(axis=1)))
        if bad.size:
            raise DataError(f"box {bad[0]}: {given[bad[0]].tolist()} has no area in the image")
        annotations = [
            {"id": i, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": c}
            for i, (box, c) in enumerate(zip(clipped.tolist(), classes, strict=True))
        ]
        record = {"file_name": "", "image_id": 0, "height": height, "width": width}
        inputs = self.mapper({**record, "annotations": annotations}, image)
        with torch.no_grad():
            return self.model([inputs])[0]["proxy"]


def _as_boxes(boxes: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """(N, 4) float64 of what a user gave, a single box included.

    Raises:
        DataError: not numbers, or not four of them per box.
    """
    try:
        given = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes: found no numbers ({error}), expected (N, 4)") from error
    if given.size and (given.ndim > 2 or given.shape[-1] != 4):
        raise DataError(f"boxes: found an array {given.shape}, expected (N, 4)")
    return given.reshape(-1, 4)
