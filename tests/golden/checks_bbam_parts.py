"""Recorded parts of BBAM: perturbation, regulariser, box coder, anchors, resize, student's loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from detectron2.structures.masks import rasterize_polygons_within_box

from tests.golden.compare import Comparison, absolute, close, each, exact, relative
from tests.golden.frame import Arrays, cases, check, tensor
from tests.golden.reference import PIXEL_MEAN_BGR, encode, network_size
from wsis.methods.bbam.box_coder import clip_inclusive, decode
from wsis.methods.bbam.losses import (
    DIRECTION_WEIGHTS,
    ObjectiveParams,
    difference_powers,
    regulariser,
    total_variation,
)
from wsis.methods.bbam.perturb import MaskBatch, fill_outside, perturb
from wsis.methods.bbam.proposals import truncated_iou
from wsis.methods.bbam.retina import read_levels, select_anchors
from wsis.modeling.pair_mask_loss import balanced_mask_loss, pair_mask_loss

GREY = 1e-4
BOX = 1e-4
TV = 1e-5
LOSS = 1e-6


@check("bbam", "perturb", "image_# mask_# up_# const_# fill_# blur_# prop_# blurprop_# batch_#")
def bbam_perturb(arrays: Arrays) -> Iterator[Comparison]:
    """All fills of each image."""
    for i in cases(arrays, "image_#"):
        image, mask, fill, box = (
            tensor(arrays[f"{n}_{i}"]) for n in ("image", "mask", "fill", "prop")
        )
        size = image.shape[-2:]
        up = MaskBatch([mask[0]], *size).upsample()
        both = MaskBatch([mask[0], 1 - mask[0]], *size).upsample()
        got = {
            "up": up[0],
            "const": perturb(image[None], up)[0],
            "blur": perturb(image[None], up, fill)[0],
            "blurprop": perturb(image[None], up, fill_outside(image, fill, box))[0],
            "batch": perturb(image[None], both),
        }
        yield from each(arrays, got, absolute, GREY, case=f"{{}}_{i}")
        outside = perturb(image[None], torch.zeros_like(up))
        yield exact(f"mean colour where mask_{i} is 0", outside, np.zeros(outside.shape))


def _variation(mask: torch.Tensor, power: int, diagonal: int, sums: int) -> torch.Tensor:
    """The recorded variants: with or without diagonals, of sums or of means."""
    if diagonal and sums:
        return total_variation(mask, power)[0]
    parts = difference_powers(mask[0], power)
    values = [part.sum() if sums else part.mean() for part in parts]
    weighted = list(zip(DIRECTION_WEIGHTS, values, strict=True))[: 4 if diagonal else 2]
    return torch.stack([w * v for w, v in weighted]).sum()


@check(
    "bbam",
    "regularizers",
    "mask_# tv_#_b3_d1_s1 reg_train_# reg_demo_# reg_train_grad_# reg_demo_grad_#",
)
def bbam_regularizers(arrays: Arrays) -> Iterator[Comparison]:
    """Total variation in all recorded variants, both presets with gradients."""
    presets = {"train": ObjectiveParams(), "demo": ObjectiveParams(0.07, 1e-3)}
    for i in cases(arrays, "mask_#"):
        mask = tensor(arrays[f"mask_{i}"]).requires_grad_()
        for power in cases(arrays, f"tv_{i}_b#_d1_s1"):
            for diagonal, sums in ((0, 0), (0, 1), (1, 0), (1, 1)):
                name = f"tv_{i}_b{power}_d{diagonal}_s{sums}"
                if name in arrays:
                    got = _variation(mask, power, diagonal, sums)
                    yield close(name, got, arrays[name], rtol=TV, atol=1e-9)
        for preset, params in presets.items():
            value = regulariser(mask, params)[0]
            (gradient,) = torch.autograd.grad(value, mask)
            found = {f"reg_{preset}": value, f"reg_{preset}_grad": gradient}
            yield from each(arrays, found, relative, TV, case=f"{{}}_{i}")


@check(
    "bbam",
    "boxes",
    "props deltas decoded clipped_wh120x90 targets encoded iou_a iou_b iou_single iou_max",
)
def bbam_boxes(arrays: Arrays) -> Iterator[Comparison]:
    """Coder, clipping, truncated IoU."""
    props, deltas, targets, a, b = (
        tensor(arrays[n]) for n in ("props", "deltas", "targets", "iou_a", "iou_b")
    )
    found = {
        "decoded": decode(deltas, props),
        "clipped_wh120x90": clip_inclusive(tensor(arrays["decoded"]), 90, 120),
        "encoded": encode(targets, props),
    }
    yield from each(arrays, found, absolute, BOX)
    highest = truncated_iou(a[:, None], b[None]).max(dim=1).values
    found = {"iou_single": truncated_iou(a, b), "iou_max": highest}
    yield from each(arrays, found, absolute, 1e-6)


@check(
    "bbam",
    "retina",
    "anchors_# cls_# reg_# wh props scores deltas decoded labels0 gt gt_labels positive_idx",
)
def bbam_retina(arrays: Arrays) -> Iterator[Comparison]:
    """The decoding; ``positive_idx`` comes from a faulty rule and is only in range."""
    width, height = (int(v) for v in arrays["wh"])
    levels = cases(arrays, "anchors_#")
    logits, deltas, anchors = (
        [tensor(arrays[f"{name}_{i}"]) for i in levels] for name in ("cls", "reg", "anchors")
    )

    def clipped(regression: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return clip_inclusive(decode(regression, boxes), height, width)

    got = read_levels(logits, deltas, anchors, clipped)
    index, truth, classes = arrays["positive_idx"], arrays["gt"], arrays["gt_labels"] - 1
    yield exact("props", torch.cat(anchors), arrays["props"])
    scores = got.logits.sigmoid().amax(dim=1)
    yield from each(arrays, {"scores": scores, "deltas": got.deltas}, absolute, BOX)
    yield exact("labels0", got.labels, arrays["labels0"])
    yield absolute("decoded", got.decoded, arrays["decoded"], BOX)
    yield exact("positive_idx in range", index, index.clip(0, len(got.logits) - 1))
    for i, box in enumerate(truth):
        overlap = np.array([_plain_iou(box, other) for other in arrays["decoded"]])
        speaks = np.flatnonzero((overlap > 0.8) & (arrays["labels0"] == classes[i]))
        expected = speaks[np.argsort(-overlap[speaks], kind="stable")][:100]
        own = select_anchors(tensor(box), int(classes[i]), got.decoded, got.labels)
        yield exact(f"anchors of gt {i}", own, expected)


def _plain_iou(first: np.ndarray, second: np.ndarray) -> float:
    a, b = ([int(v) for v in box] for box in (first, second))
    sides = [max(min(a[k + 2], b[k + 2]) - max(a[k], b[k]), 0) for k in (0, 1)]
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    common = sides[0] * sides[1]
    return common / (areas - common) if areas > common else 0.0


@check("bbam", "transform", "wh hw_800_1333 hw_512_800 rgb normalized")
def bbam_transform(arrays: Arrays) -> Iterator[Comparison]:
    """Network sizes, and the mean taken off."""
    for short, longest in ((800, 1333), (512, 800)):
        sizes = [network_size(int(h), int(w), short, longest) for w, h in arrays["wh"]]
        yield exact(f"hw_{short}_{longest}", sizes, arrays[f"hw_{short}_{longest}"])
    bgr = arrays["rgb"][..., ::-1].astype(np.float32).transpose(2, 0, 1)
    normalised = bgr - np.float32(PIXEL_MEAN_BGR)[:, None, None]
    yield absolute("normalized", normalised, arrays["normalized"], GREY)


MASK_LOSS = ("target_ignore", "logits", "labels", "target", "loss", "grad")


def _tags(arrays: Arrays) -> list[str]:
    """The cases of a file, ``grow`` of ``logits_grow`` and the like."""
    tags = (next(name[len(p) + 1 :] for p in MASK_LOSS if name.startswith(p)) for name in arrays)
    return sorted(set(tags))


@check("bbam", "mask_loss")
def bbam_mask_loss(arrays: Arrays) -> Iterator[Comparison]:
    """The pair loss, or the balanced one without a region, with gradients."""
    for tag in _tags(arrays):
        logits = tensor(arrays[f"logits_{tag}"]).requires_grad_()
        classes, target = tensor(arrays[f"labels_{tag}"]), tensor(arrays[f"target_{tag}"]) > 0.5
        region = f"target_ignore_{tag}"
        if region in arrays:
            loss = pair_mask_loss(logits, classes, target, tensor(arrays[region]) > 0.5)
        else:
            loss = balanced_mask_loss(logits, classes, target)
        (gradient,) = torch.autograd.grad(loss, logits)
        yield from each(
            arrays, {"loss": loss, "grad": gradient}, absolute, LOSS, case=f"{{}}_{tag}"
        )


@check("bbam", "mask_targets", "boxes targets28 poly_# polylen_#")
def bbam_mask_targets(arrays: Arrays) -> Iterator[Comparison]:
    """Polygons cut out by Detectron2, which the student uses as it is."""
    numbers = cases(arrays, "poly_#")
    for i in numbers:
        points, lengths = arrays[f"poly_{i}"], arrays[f"polylen_{i}"]
        parts = np.split(points, np.cumsum(lengths))[: len(lengths)]
        polygons = [part.astype(np.float64) for part in parts]
        got = rasterize_polygons_within_box(polygons, arrays["boxes"][i], mask_size=28)
        yield exact(f"targets28 {i}", got, arrays["targets28"][i])
        yield exact(f"polylen_{i}", lengths.sum(), points.size)
    yield exact("targets28", len(numbers), len(arrays["targets28"]))
