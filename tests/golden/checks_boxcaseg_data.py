"""Recorded samples of BoxCaseg: crops, transforms, the order of a training, merged masks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.golden.compare import Comparison, absolute, each, exact
from tests.golden.frame import Arrays, check, tags
from tests.golden.reference import resize_mask
from wsis.data.crops import jittered_windows
from wsis.layers.merge import merge_by_area
from wsis.layers.paste import place_crop
from wsis.methods.boxcaseg.refiner import mask_confidence, tight_box
from wsis.methods.boxcaseg.sampler import EpochSampler
from wsis.methods.boxcaseg.transforms import SalientWindow, box_pixels, salient_sample
from wsis.structures.boxes import xywh_to_xyxy

PIXELS = 1e-5
CONFIDENCE = 1e-6


@check("boxcaseg", "box_jitter", "box uniforms image_hw voc_crop coco_crop")
def box_jitter(arrays: Arrays) -> Iterator[Comparison]:
    """Windows drawn around boxes, without and with the guard against empty ones."""
    height, width = (int(v) for v in arrays["image_hw"])
    drawn = arrays["box"], arrays["uniforms"], height, width
    for name, guard in (("voc_crop", False), ("coco_crop", True)):
        yield exact(name, jittered_windows(*drawn, guard=guard), arrays[name])


WINDOW = ("flip_rows", "top", "left")
TRANSFORMED = ("image", "label", "out_image", "out_label", *WINDOW)


@check("boxcaseg", "train_transform", "mid_size out_size")
def train_transform(arrays: Arrays) -> Iterator[Comparison]:
    """Box crops resized; salient images, which have a window, resized, turned upside down and cut."""
    middle, size = int(arrays["mid_size"]), int(arrays["out_size"])
    for case in tags(arrays, TRANSFORMED):
        image, label = (_with_channels(arrays[f"{case}_{name}"]) for name in ("image", "label"))
        mask = label[..., 0] > 0
        if any(f"{case}_{name}" in arrays for name in WINDOW):
            drawn = (arrays[f"{case}_{name}"].item() for name in WINDOW)
            got = salient_sample(image, mask, SalientWindow(*drawn), middle, size, "legacy")
        else:
            got = box_pixels(image, size, "legacy"), resize_mask(mask, size)[None]
        yield absolute(f"{case}_image", got[0], arrays[f"{case}_out_image"], PIXELS)
        yield exact(f"{case}_label", got[1], arrays[f"{case}_out_label"])


@check("boxcaseg", "test_transform")
def test_transform(arrays: Arrays) -> Iterator[Comparison]:
    """Whole boxes resized."""
    for case in tags(arrays, ("image", "out")):
        expected = arrays[f"{case}_out"]
        got = box_pixels(arrays[f"{case}_image"], expected.shape[-1], "legacy")
        yield absolute(case, got, expected, PIXELS)


def _with_channels(image: np.ndarray) -> np.ndarray:
    """(H, W, C), also of a single channel that has no axis."""
    return image.reshape(*image.shape[:2], -1)


MERGED = ("image_index", "bbox_xywh", "image_hw", "in_masks", "out_masks", "confidence", "ann_id")


@check("boxcaseg", "proxy_merge")
def proxy_merge(arrays: Arrays) -> Iterator[Comparison]:
    """Merged masks by annotation id, and their legacy confidences.

    A mask of which nothing is left is recorded with the confidence of a mask in the image's first pixel.
    """
    first_pixel = np.array([0.0, 0.0, 1.0, 1.0])
    for case in tags(arrays, MERGED):
        index, boxes, sizes, given, masks, confidence, ids = (
            arrays[f"{case}_{name}"] for name in MERGED
        )
        got, scores = {}, {}
        for image, size in enumerate(sizes.tolist()):
            members = np.flatnonzero(index == image)
            crops = [(given[i, : size[0], : size[1]] > 0, 0, 0) for i in members]
            merged = merge_by_area(crops, boxes[members, 2:].prod(axis=1), *size)
            for i, mask in zip(members, merged, strict=True):
                tight = tight_box((mask, 0, 0))
                tight = first_pixel if tight is None else tight
                box = xywh_to_xyxy(boxes[i])
                scores[int(ids[i])] = mask_confidence(tight, box, *size, "legacy")
                got[int(ids[i])] = place_crop(mask, 0, 0, *masks.shape[1:])
        order = ids.tolist()
        yield exact(f"{case}_masks", [got[i] for i in order], masks)
        yield absolute(f"{case}_confidence", [scores[i] for i in order], confidence, CONFIDENCE)


@check(
    "boxcaseg",
    "ratio_sampler",
    "num_weak num_full batch_size ratio_weak overlap_index rank0 rank1"
    " salient_per_global_batch weak_in_batch full_in_batch",
)
def ratio_sampler(arrays: Arrays) -> Iterator[Comparison]:
    """Composition and length of an epoch of two processes; the order is chance."""
    num_weak, num_full, size = (int(arrays[n]) for n in ("num_weak", "num_full", "batch_size"))
    overlapped = np.zeros(num_weak, dtype=bool)
    overlapped[arrays["overlap_index"]] = True
    share = round(float(arrays["ratio_weak"]), 6)
    sampler = EpochSampler(
        np.arange(num_weak), num_full, size, share, overlapped, drop=0.75, processes=2
    )
    recorded = np.stack([arrays["rank0"], arrays["rank1"]], axis=1).ravel()
    recorded = recorded[: len(recorded) // size * size].reshape(-1, size)
    drawn, weak = sampler.epoch(0), sampler.weak_per_batch
    yield from each(arrays, {"weak_in_batch": weak, "full_in_batch": size - weak})
    yield exact("batches", len(drawn), len(recorded))
    expected = arrays["salient_per_global_batch"][: len(recorded)]
    for name, batches in (("recorded", recorded), ("drawn", drawn)):
        salient, weak = batches[batches >= num_weak], batches[batches < num_weak]
        yield exact(f"{name}_salient", (batches >= num_weak).sum(axis=1), expected)
        yield exact(f"{name}_twice", len(salient) - len(np.unique(salient)), 0)
        yield exact(f"{name}_weak_twice", len(weak) - len(np.unique(weak)), 0)
