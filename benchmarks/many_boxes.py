"""A student's input where an image has very many boxes: by Detectron2's mapper, and as runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from benchmarks.timing import Row, forget_peak, in_fresh_process, interleave, memory, timing_rows
from wsis.data.mapper import WsisDatasetMapper
from wsis.structures.rle import encode_crop

PLAIN = "Detectron2's mapper (plain)"
OURS = "runs"
_COMPARED = 100
"""Masks that are dense at a time when both ways are compared."""


def benchmark_many_boxes(
    objects: tuple[int, ...] = (7, 200, 2000),
    side: int = 24,
    height: int = 2000,
    width: int = 3000,
    proposals: int = 128,
    repeats: int = 1,
) -> list[Row]:
    """An image with its boxes and masks, read, resized and mirrored for a student, and the masks cut out for proposals,
    against Detectron2's mapper and bit masks.

    ``differ`` counts masks, boxes, classes and targets of both ways that are not bit for bit the same. Memory is the
    peak above what the process had before, in a fresh one.

    Args:
        objects: of the image, a case for each number.
        side: of a box in pixels.
        height: of the image in pixels.
        width: of the image in pixels.
        proposals: whose targets of 28 x 28 are cut out.
        repeats: rounds that count.
    """
    rows = []
    for number in objects:
        with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
            record = image_with_boxes(Path(name), number, side, height, width)
            ways = {way: partial(_student_input, way, record, proposals) for way in (PLAIN, OURS)}
            differ = _differences(*(way() for way in ways.values()))
            timings = interleave(ways, repeats, warm_up=0)
            peaks = {way: in_fresh_process(_peak, way, record, proposals) for way in ways}
        for row in timing_rows(timings, PLAIN):
            peak = peaks[row["way"]] / 1e6
            rows.append({"objects": number, **row, "peak memory (MB)": peak, "differ": differ})
    return rows


def image_with_boxes(
    folder: Path, number: int, side: int, height: int, width: int
) -> dict[str, Any]:
    """Detectron2's dict of a JPEG image with ellipses in boxes anywhere."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    name = str(folder / "image.jpg")
    cv2.imwrite(name, cv2.resize(coarse, (width, height)))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    annotations = []
    for i in range(number):
        x0, y0 = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
        ellipse = (x / rng.uniform(0.5, 1)) ** 2 + (y / rng.uniform(0.5, 1)) ** 2 < 1
        annotations.append(
            {
                "id": i + 1,
                "category_id": i % 3,
                "iscrowd": 0,
                "bbox": [float(v) for v in (x0, y0, x0 + side, y0 + side)],
                "bbox_mode": BoxMode.XYXY_ABS,
                "segmentation": encode_crop(ellipse, x0, y0, height, width),
            }
        )
    image = {"file_name": name, "height": height, "width": width, "image_id": 1}
    return {**image, "annotations": annotations}


def _mapper(way: str) -> Callable[[dict[str, Any]], Any]:
    augmentations = [T.ResizeShortestEdge([800], 1333, "choice"), T.RandomFlip(prob=1.0)]
    if way == OURS:
        return WsisDatasetMapper(
            True,
            augmentations=augmentations,
            image_format="BGR",
            high_bit_depth="minmax",
            use_masks=True,
        )
    return DatasetMapper(
        True,
        augmentations=augmentations,
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )


def _student_input(way: str, record: dict[str, Any], proposals: int) -> tuple[Any, torch.Tensor]:
    """The ground truth, and what a mask head learns from it: targets of proposals near boxes."""
    instances = _mapper(way)(record)["instances"]
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(len(instances), (proposals,), generator=generator)
    near = 2 * torch.randn(proposals, 4, generator=generator)
    boxes = instances.gt_boxes[index].tensor + near
    return instances, instances.gt_masks[index].crop_and_resize(boxes, 28)


def _differences(plain: tuple[Any, torch.Tensor], ours: tuple[Any, torch.Tensor]) -> int:
    (expected, targets), (found, own_targets) = plain, ours
    if len(expected) != len(found):
        return max(len(expected), len(found))
    differ = int((targets != own_targets).flatten(1).any(dim=1).sum())
    differ += int((expected.gt_boxes.tensor != found.gt_boxes.tensor).any(dim=1).sum())
    differ += int((expected.gt_classes != found.gt_classes).sum())
    for start in range(0, len(found), _COMPARED):
        part = slice(start, start + _COMPARED)
        masks = expected.gt_masks[part].tensor != found.gt_masks[part].tensor
        differ += int(masks.flatten(1).any(dim=1).sum())
    return differ


def _peak(way: str, record: dict[str, Any], proposals: int) -> int:
    """Memory in bytes above that before."""
    torch.set_num_threads(1)
    _student_input(way, {**record, "annotations": record["annotations"][:1]}, proposals)
    before = memory()
    forget_peak()
    _student_input(way, record, proposals)
    return memory("VmHWM") - before
