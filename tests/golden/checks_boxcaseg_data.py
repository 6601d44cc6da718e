"""Recorded samples of BoxCaseg: crops, transforms, the order of a training, merged masks."""

from __future__ import annotations

import numpy as np

from tests.golden.compare import Comparison, absolute, exact
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


@check(
    method="boxcaseg",
    prefix="box_jitter",
    arrays=("box", "uniforms", "image_hw", "voc_crop", "coco_crop"),
)
def box_jitter(arrays: Arrays) -> list[Comparison]:
    """Windows drawn around boxes, without and with the guard against empty ones."""
    height, width = (int(v) for v in arrays["image_hw"])
    drawn = arrays["box"], arrays["uniforms"], height, width
    return [
        exact("voc_crop", jittered_windows(*drawn, guard=False), arrays["voc_crop"]),
        exact("coco_crop", jittered_windows(*drawn), arrays["coco_crop"]),
    ]


WINDOW = ("flip_rows", "top", "left")
TRANSFORMED = ("image", "label", "out_image", "out_label", *WINDOW)


@check(method="boxcaseg", prefix="train_transform", arrays=("mid_size", "out_size"))
def train_transform(arrays: Arrays) -> list[Comparison]:
    """Box crops resized; salient images, which have a window, resized, turned upside down and cut."""
    middle, size = int(arrays["mid_size"]), int(arrays["out_size"])
    out = []
    for case in tags(arrays, TRANSFORMED):
        image, label = (_with_channels(arrays[f"{case}_{name}"]) for name in ("image", "label"))
        mask = label[..., 0] > 0
        if any(f"{case}_{name}" in arrays for name in WINDOW):
            drawn = (arrays[f"{case}_{name}"].item() for name in WINDOW)
            got = salient_sample(image, mask, SalientWindow(*drawn), middle, size, "legacy")
        else:
            got = box_pixels(image, size, "legacy"), resize_mask(mask, size)[None]
        out.append(absolute(f"{case}_image", got[0], arrays[f"{case}_out_image"], PIXELS))
        out.append(exact(f"{case}_label", got[1], arrays[f"{case}_out_label"]))
    return out


@check(method="boxcaseg", prefix="test_transform", arrays=())
def test_transform(arrays: Arrays) -> list[Comparison]:
    """Whole boxes resized."""
    out = []
    for case in tags(arrays, ("image", "out")):
        expected = arrays[f"{case}_out"]
        got = box_pixels(arrays[f"{case}_image"], expected.shape[-1], "legacy")
        out.append(absolute(case, got, expected, PIXELS))
    return out


def _with_channels(image: np.ndarray) -> np.ndarray:
    """(H, W, C), also of a single channel that has no axis."""
    return image.reshape(*image.shape[:2], -1)


MERGED = ("image_index", "bbox_xywh", "image_hw", "in_masks", "out_masks", "confidence", "ann_id")


@check(method="boxcaseg", prefix="proxy_merge", arrays=())
def proxy_merge(arrays: Arrays) -> list[Comparison]:
    """Merged masks by annotation id, and their legacy confidences.

    A mask of which nothing is left is recorded with the confidence of a mask in the image's first pixel.
    """
    first_pixel = np.array([0.0, 0.0, 1.0, 1.0])
    out = []
    for case in tags(arrays, MERGED):
        index, boxes, sizes, given, masks, confidence, ids = (
            arrays[f"{case}_{name}"] for name in MERGED
        )
        got, scores = {}, {}
        for image, (height, width) in enumerate(sizes.tolist()):
            members = np.flatnonzero(index == image)
            crops = [(given[i, :height, :width] > 0, 0, 0) for i in members]
            merged = merge_by_area(crops, boxes[members, 2:].prod(axis=1), height, width)
            for i, mask in zip(members, merged, strict=True):
                tight = tight_box((mask, 0, 0))
                scores[int(ids[i])] = mask_confidence(
                    first_pixel if tight is None else tight,
                    xywh_to_xyxy(boxes[i]),
                    height,
                    width,
                    "legacy",
                )
                got[int(ids[i])] = place_crop(mask, 0, 0, *masks.shape[1:])
        order = ids.tolist()
        out.append(exact(f"{case}_masks", [got[i] for i in order], masks))
        out.append(
            absolute(f"{case}_confidence", [scores[i] for i in order], confidence, CONFIDENCE)
        )
    return out


@check(
    method="boxcaseg",
    prefix="ratio_sampler",
    arrays=(
        *("num_weak", "num_full", "batch_size", "ratio_weak", "overlap_index"),
        *("rank0", "rank1", "salient_per_global_batch", "weak_in_batch", "full_in_batch"),
    ),
)
def ratio_sampler(arrays: Arrays) -> list[Comparison]:
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
    drawn = sampler.epoch(0)
    out = [
        exact("weak_in_batch", sampler.weak_per_batch, arrays["weak_in_batch"]),
        exact("full_in_batch", size - sampler.weak_per_batch, arrays["full_in_batch"]),
        exact("batches", len(drawn), len(recorded)),
    ]
    expected = arrays["salient_per_global_batch"][: len(recorded)]
    for name, batches in (("recorded", recorded), ("drawn", drawn)):
        salient, weak = batches[batches >= num_weak], batches[batches < num_weak]
        out += [
            exact(f"{name}_salient", (batches >= num_weak).sum(axis=1), expected),
            exact(f"{name}_twice", len(salient) - len(np.unique(salient)), 0),
            exact(f"{name}_weak_twice", len(weak) - len(np.unique(weak)), 0),
        ]
    return out
