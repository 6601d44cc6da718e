"""Recorded parts of BBAM: perturbation, regulariser, box coder, anchors, resize, student's loss."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from detectron2.structures.masks import rasterize_polygons_within_box

from tests.golden.compare import Comparison, absolute, close, exact, relative
from tests.golden.frame import Arrays, cases, check
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


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values))


PERTURB = ("image", "mask", "up", "const", "fill", "blur", "prop", "blurprop", "batch")


@check(method="bbam", prefix="perturb", arrays=tuple(f"{name}_#" for name in PERTURB))
def bbam_perturb(arrays: Arrays) -> list[Comparison]:
    """All fills of each image."""
    out = []
    for i in cases(arrays, "image_#"):
        image, mask, fill, box = (
            _tensor(arrays[f"{n}_{i}"]) for n in ("image", "mask", "fill", "prop")
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
        out += [absolute(f"{n}_{i}", v, arrays[f"{n}_{i}"], GREY) for n, v in got.items()]
        outside = perturb(image[None], torch.zeros_like(up))
        out.append(exact(f"mean colour where mask_{i} is 0", outside, np.zeros(outside.shape)))
    return out


def _variation(mask: torch.Tensor, power: int, diagonal: int, sums: int) -> torch.Tensor:
    """The recorded variants: with or without diagonals, of sums or of means."""
    if diagonal and sums:
        return total_variation(mask, power)[0]
    parts = difference_powers(mask[0], power)
    values = [part.sum() if sums else part.mean() for part in parts]
    weighted = list(zip(DIRECTION_WEIGHTS, values, strict=True))[: 4 if diagonal else 2]
    return torch.stack([w * v for w, v in weighted]).sum()


@check(
    method="bbam",
    prefix="regularizers",
    arrays=("mask_#", "tv_#_b3_d1_s1")
    + tuple(f"reg_{part}_#" for part in ("train", "demo", "train_grad", "demo_grad")),
)
def bbam_regularizers(arrays: Arrays) -> list[Comparison]:
    """Total variation in all recorded variants, both presets with gradients."""
    out = []
    presets = {"train": ObjectiveParams(), "demo": ObjectiveParams(0.07, 1e-3)}
    for i in cases(arrays, "mask_#"):
        mask = _tensor(arrays[f"mask_{i}"]).requires_grad_()
        for power in cases(arrays, f"tv_{i}_b#_d1_s1"):
            for diagonal, sums in ((0, 0), (0, 1), (1, 0), (1, 1)):
                name = f"tv_{i}_b{power}_d{diagonal}_s{sums}"
                if name in arrays:
                    got = _variation(mask, power, diagonal, sums).detach()
                    out.append(close(name, got, arrays[name], rtol=TV, atol=1e-9))
        for preset, params in presets.items():
            value = regulariser(mask, params)[0]
            (gradient,) = torch.autograd.grad(value, mask)
            expected = arrays[f"reg_{preset}_grad_{i}"]
            out.append(
                relative(f"reg_{preset}_{i}", value.detach(), arrays[f"reg_{preset}_{i}"], TV)
            )
            out.append(relative(f"reg_{preset}_grad_{i}", gradient, expected, TV))
    return out


@check(
    method="bbam",
    prefix="boxes",
    arrays=("props", "deltas", "decoded", "clipped_wh120x90", "targets", "encoded")
    + ("iou_a", "iou_b", "iou_single", "iou_max"),
)
def bbam_boxes(arrays: Arrays) -> list[Comparison]:
    """Coder, clipping, truncated IoU."""
    props, a, b = (_tensor(arrays[n]) for n in ("props", "iou_a", "iou_b"))
    decoded = decode(_tensor(arrays["deltas"]), props)
    clipped = clip_inclusive(_tensor(arrays["decoded"]), 90, 120)
    every = truncated_iou(a[:, None], b[None])
    return [
        absolute("decoded", decoded, arrays["decoded"], BOX),
        absolute("clipped_wh120x90", clipped, arrays["clipped_wh120x90"], BOX),
        absolute("encoded", encode(_tensor(arrays["targets"]), props), arrays["encoded"], BOX),
        absolute("iou_single", truncated_iou(a, b), arrays["iou_single"], 1e-6),
        absolute("iou_max", every.max(dim=1).values, arrays["iou_max"], 1e-6),
    ]


@check(
    method="bbam",
    prefix="retina",
    arrays=("anchors_#", "cls_#", "reg_#", "wh", "props", "scores", "deltas", "decoded")
    + ("labels0", "gt", "gt_labels", "positive_idx"),
)
def bbam_retina(arrays: Arrays) -> list[Comparison]:
    """The decoding; ``positive_idx`` comes from a faulty rule and is only in range."""
    width, height = (int(v) for v in arrays["wh"])
    levels = cases(arrays, "anchors_#")
    logits, deltas, anchors = (
        [_tensor(arrays[f"{name}_{i}"]) for i in levels] for name in ("cls", "reg", "anchors")
    )

    def clipped(regression: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return clip_inclusive(decode(regression, boxes), height, width)

    got = read_levels(logits, deltas, anchors, clipped)
    index, truth, classes = arrays["positive_idx"], arrays["gt"], arrays["gt_labels"] - 1
    out = [
        exact("props", torch.cat(anchors), arrays["props"]),
        absolute("scores", got.logits.sigmoid().amax(dim=1), arrays["scores"], BOX),
        absolute("deltas", got.deltas, arrays["deltas"], BOX),
        exact("labels0", got.labels, arrays["labels0"]),
        absolute("decoded", got.decoded, arrays["decoded"], BOX),
        exact("positive_idx in range", index, index.clip(0, len(got.logits) - 1)),
    ]
    for i, box in enumerate(truth):
        overlap = np.array([_plain_iou(box, other) for other in arrays["decoded"]])
        speaks = np.flatnonzero((overlap > 0.8) & (arrays["labels0"] == classes[i]))
        expected = speaks[np.argsort(-overlap[speaks], kind="stable")][:100]
        own = select_anchors(_tensor(box), int(classes[i]), got.decoded, got.labels)
        out.append(exact(f"anchors of gt {i}", own, expected))
    return out


def _plain_iou(first: np.ndarray, second: np.ndarray) -> float:
    a, b = ([int(v) for v in box] for box in (first, second))
    sides = [max(min(a[k + 2], b[k + 2]) - max(a[k], b[k]), 0) for k in (0, 1)]
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    common = sides[0] * sides[1]
    return common / (areas - common) if areas > common else 0.0


@check(
    method="bbam",
    prefix="transform",
    arrays=("wh", "hw_800_1333", "hw_512_800", "rgb", "normalized"),
)
def bbam_transform(arrays: Arrays) -> list[Comparison]:
    """Network sizes, and the mean taken off."""
    out = []
    for short, longest in ((800, 1333), (512, 800)):
        name = f"hw_{short}_{longest}"
        sizes = [network_size(int(h), int(w), short, longest) for w, h in arrays["wh"]]
        out.append(exact(name, sizes, arrays[name]))
    bgr = arrays["rgb"][..., ::-1].astype(np.float32).transpose(2, 0, 1)
    normalised = bgr - np.float32(PIXEL_MEAN_BGR)[:, None, None]
    return [*out, absolute("normalized", normalised, arrays["normalized"], GREY)]


MASK_LOSS = ("logits", "labels", "target", "target_ignore", "loss", "grad")


def _tags(arrays: Arrays) -> list[str]:
    """The cases of a file, ``grow`` of ``logits_grow`` and the like."""
    prefixes = sorted(MASK_LOSS, key=len, reverse=True)
    tags = (next(name[len(p) + 1 :] for p in prefixes if name.startswith(p)) for name in arrays)
    return sorted(set(tags))


@check(method="bbam", prefix="mask_loss", arrays=())
def bbam_mask_loss(arrays: Arrays) -> list[Comparison]:
    """The pair loss, or the balanced one without a region, with gradients."""
    out = []
    for tag in _tags(arrays):
        logits = _tensor(arrays[f"logits_{tag}"]).requires_grad_()
        classes, target = _tensor(arrays[f"labels_{tag}"]), _tensor(arrays[f"target_{tag}"]) > 0.5
        region = f"target_ignore_{tag}"
        if region in arrays:
            loss = pair_mask_loss(logits, classes, target, _tensor(arrays[region]) > 0.5)
        else:
            loss = balanced_mask_loss(logits, classes, target)
        (gradient,) = torch.autograd.grad(loss, logits)
        out.append(absolute(f"loss_{tag}", loss.detach(), arrays[f"loss_{tag}"], LOSS))
        out.append(absolute(f"grad_{tag}", gradient, arrays[f"grad_{tag}"], LOSS))
    return out


@check(method="bbam", prefix="mask_targets", arrays=("boxes", "targets28", "poly_#", "polylen_#"))
def bbam_mask_targets(arrays: Arrays) -> list[Comparison]:
    """Polygons cut out by Detectron2, which the student uses as it is."""
    rasterise = partial(rasterize_polygons_within_box, mask_size=28)
    out = []
    for i in cases(arrays, "poly_#"):
        ends = np.cumsum(arrays[f"polylen_{i}"])
        parts = np.split(arrays[f"poly_{i}"], ends)
        polygons = [part.astype(np.float64) for part in parts[: len(ends)]]
        got = rasterise(polygons, arrays["boxes"][i])
        out.append(exact(f"targets28 {i}", got, arrays["targets28"][i]))
        out.append(exact(f"polylen_{i}", arrays[f"polylen_{i}"].sum(), arrays[f"poly_{i}"].size))
    return [*out, exact("targets28", len(out), 2 * len(arrays["targets28"]))]
