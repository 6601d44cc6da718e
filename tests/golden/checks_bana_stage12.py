"""Recorded parts of BANA's stage 1: pooling, transforms, learning rates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from tests.golden.compare import Comparison, absolute, close, each, exact
from tests.golden.frame import Arrays, cases, check, tensor
from wsis.config import load_cfg
from wsis.data.crop_transform import CropTransform, Draw
from wsis.engine import WsisTrainer
from wsis.layers.bilinear import grid_points
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.methods.bana.lattice import box_lattice, make_lattice, unit_boxes
from wsis.methods.bana.pooling import (
    Pooled,
    background_aware_pooling,
    classification_targets,
    grid_cells,
    grid_padding,
    query_weights,
    window_means,
)
from wsis.structures.pseudo_labels import IGNORE

CONFIGS = Path(__file__).parents[2] / "configs" / "BANA"
CAFFE_MEAN_BGR = np.array([104.008, 116.669, 122.675], dtype=np.float32)


@check(
    "bana",
    "bap_",
    "features bg_mask boxes_px boxes_norm batch_id crop_hw grid_size roi_size classifier_weight"
    " bap_valid_image padded_mask cell_count queries valid_flat_ids target"
    " pooled_ac# logits_ac# loss_ac# grad_features_ac# grad_classifier_ac#",
)
def bana_bap(arrays: Arrays) -> Iterator[Comparison]:
    """Queries, attention, pooled features, logits, loss and both gradients, in both sampling conventions."""
    mask, grid = tensor(arrays["bg_mask"])[:, 0].float(), int(arrays["grid_size"])
    map_size = arrays["features"].shape[2:]
    small = functional.interpolate(mask[:, None], size=map_size, mode="nearest")
    _, counts = query_weights(small[:, 0], grid)
    boxes = tensor(arrays["boxes_px"])
    unit = unit_boxes(boxes[:, :4], tuple(arrays["crop_hw"].tolist()))
    yield close("boxes_norm", torch.cat([unit, boxes[:, 4:]], dim=1), arrays["boxes_norm"])
    found = {
        "bap_valid_image": (mask.mean(dim=(1, 2)) > 0.125).numpy(),
        "padded_mask": functional.pad(small, grid_padding(*map_size, grid)),
        "cell_count": counts,
    }
    yield from each(arrays, found)
    for mode in cases(arrays, "loss_ac#"):
        yield from _bap_in_one_mode(arrays, mask, mode)


def _bap_in_one_mode(arrays: Arrays, mask: torch.Tensor, mode: int) -> Iterator[Comparison]:
    features, weight = (
        tensor(arrays[name]).requires_grad_() for name in ("features", "classifier_weight")
    )
    boxes, roi_size = tensor(arrays["boxes_norm"]), arrays["roi_size"].tolist()
    lattice = box_lattice(
        boxes[:, :4],
        tensor(arrays["batch_id"]),
        tuple(features.shape[2:]),
        tuple(roi_size),
        align_corners=bool(mode),
    )
    pooled = background_aware_pooling(features, mask, lattice, int(arrays["grid_size"]))
    logits, targets = _rows(pooled, weight, boxes[:, 4].long())
    loss = mean_cross_entropy(logits, targets)
    grad_features, grad_weight = torch.autograd.grad(loss, [features, weight])
    counted = targets != IGNORE
    valid = pooled.valid.flatten().nonzero()[:, 0]
    windows = pooled.windows.reshape(len(boxes), *roi_size, features.shape[1])
    found = {"pooled": windows.permute(0, 3, 1, 2), "logits": logits[counted], "loss": loss}
    gradients = {"grad_features": grad_features, "grad_classifier": grad_weight}
    yield exact("target", targets[counted], arrays["target"])
    yield close("queries", pooled.queries, arrays["queries"])
    yield exact("valid_flat_ids", valid, arrays["valid_flat_ids"])
    yield from each(arrays, found, close, case=f"{{}}_ac{mode}")
    yield from each(arrays, gradients, close, 1e-3, 1e-6, case=f"{{}}_ac{mode}")
    points = pooled.attention.detach().split(lattice.sizes.prod(dim=1).tolist())
    for i, (size, values) in enumerate(zip(lattice.sizes.tolist(), points, strict=True)):
        name = f"fg_attention_box{i}_ac{mode}"
        yield exact(f"roi_hw_box{i}", size, arrays[f"roi_hw_box{i}"])
        yield close(name, values.view(size), arrays[name])


def _rows(
    pooled: Pooled, weight: torch.Tensor, classes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.cat([pooled.windows.flatten(0, 1), pooled.queries.flatten(0, 1)])
    windows = pooled.windows.shape[1]
    return rows @ weight.T, classification_targets(classes, windows, pooled.valid)


@check("bana", "weighted_pool", "x# w# out_hw# y#")
def bana_weighted_pool(arrays: Arrays) -> Iterator[Comparison]:
    """Weighted means of windows that overlap, repeat a row, or have no weight."""
    for i in cases(arrays, "x#"):
        features, weights = tensor(arrays[f"x{i}"]), tensor(arrays[f"w{i}"])
        size, windows = tuple(weights.shape), tuple(arrays[f"out_hw{i}"].tolist())
        points = grid_points(size, size)
        lattice = make_lattice(torch.tensor([size]), torch.tensor([0]), points, windows)
        means = window_means(features.flatten(1).T, weights.flatten(), lattice.windows.T)
        yield close(f"y{i}", means.T.reshape(-1, *windows), arrays[f"y{i}"])


@check("bana", "pad_for_grid", "x# g# y# count_gt1p5_#")
def bana_pad_for_grid(arrays: Arrays) -> Iterator[Comparison]:
    """Where the zeros go, and which pixels are in which cell."""
    for i in cases(arrays, "x#"):
        values, grid = tensor(arrays[f"x{i}"]), int(arrays[f"g{i}"])
        padded = functional.pad(values, grid_padding(*values.shape, grid))
        cells = grid_cells(*values.shape, grid)[values > 1.5]
        counts = torch.bincount(cells, minlength=grid**2)
        yield from each(arrays, {f"y{i}": padded, f"count_gt1p5_{i}": counts})


@check(
    "bana",
    "transforms",
    "img# boxes# bg# label# crop# scale_rand_crop_flip#"
    " out_img_bgr# out_boxes_px# out_boxes_norm# out_bg# out_label#",
)
def bana_transforms(arrays: Arrays) -> Iterator[Comparison]:
    """Image, background and label of each crop; its boxes where the recorded ones do not leave it."""
    for i in cases(arrays, "img#"):
        image, boxes = arrays[f"img{i}"], arrays[f"boxes{i}"]
        # the shortest decimal is what was drawn: 0.7 of 60 pixels are 42, its single precision would make 41 of them
        scale, x, y, flip = (float(str(value)) for value in arrays[f"scale_rand_crop_flip{i}"])
        height, width = crop = tuple(arrays[f"crop{i}"].tolist())
        transform = CropTransform(image.shape[:2], crop, Draw(scale, x, y, flip > 0.5))
        bgr = transform.image(image)[:, :, ::-1] - CAFFE_MEAN_BGR
        found, seen = transform.boxes(boxes[:, :4])
        recorded, recorded_unit = arrays[f"out_boxes_px{i}"], arrays[f"out_boxes_norm{i}"]
        unit = unit_boxes(tensor(found), crop)
        far = np.array([width, height, width, height])
        expected = np.column_stack([recorded[:, :4].clip(0, far), recorded[:, 4]])
        far = far / ((far - 1) / 2) - 1
        expected_unit = np.column_stack([recorded_unit[:, :4].clip(-1, far), recorded_unit[:, 4]])
        yield absolute(f"out_img_bgr{i}", bgr.transpose(2, 0, 1), arrays[f"out_img_bgr{i}"], 1e-2)
        for name, void in (("bg", 0), ("label", 255)):
            cropped = transform.label(arrays[f"{name}{i}"], void)
            yield exact(f"out_{name}{i}", cropped, arrays[f"out_{name}{i}"])
        yield close(f"out_boxes_px{i}", np.column_stack([found, boxes[seen, 4]]), expected)
        yield close(f"out_boxes_norm{i}", np.column_stack([unit, boxes[seen, 4]]), expected_unit)


SCHEDULES = {
    "stage1": "bana_classifier_vgg16_voc",
    "stage3_vgg": "deeplab_v1_vgg16_voc",
    "stage3_res": "deeplab_v2_R_101_voc",
}
"""Their configs."""


@check("bana", "schedules", " ".join(f"{name}_lr {name}_lr_it" for name in SCHEDULES))
def bana_schedules(arrays: Arrays) -> Iterator[Comparison]:
    """Learning rates of the published configs at 1-based iterations, before the step of that iteration."""
    for name, config in SCHEDULES.items():
        rates = _rates(config, arrays[f"{name}_lr_it"].tolist())
        yield close(f"{name}_lr", rates, arrays[f"{name}_lr"], rtol=1e-4, atol=1e-12)


def _rates(config: str, iterations: list[int]) -> list[float]:
    cfg = load_cfg(CONFIGS / f"{config}.yaml")
    rate, last = cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = WsisTrainer.build_lr_scheduler(cfg, optimizer)
    return [rate * schedule._multiplier((i - 1) / last) for i in iterations]
