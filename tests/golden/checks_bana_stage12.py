"""Recorded parts of BANA's stage 1: pooling, transforms, learning rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from tests.golden.compare import Comparison, absolute, close, exact
from tests.golden.frame import Arrays, cases, check
from wsis.config import load_cfg
from wsis.engine import WsisTrainer
from wsis.layers.bilinear import grid_points
from wsis.methods.bana.lattice import box_lattice, make_lattice, unit_boxes
from wsis.methods.bana.pooling import (
    Pooled,
    background_aware_pooling,
    classification_targets,
    grid_cells,
    grid_padding,
    mean_cross_entropy,
    query_weights,
    window_means,
)
from wsis.methods.bana.samples import CropTransform, Draw

CONFIGS = Path(__file__).parents[2] / "configs" / "BANA"
CAFFE_MEAN_BGR = np.array([104.008, 116.669, 122.675], dtype=np.float32)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values))


BAP_INPUTS = ("features", "bg_mask", "boxes_px", "boxes_norm", "batch_id", "crop_hw", "grid_size")
BAP_INPUTS += ("roi_size", "classifier_weight")
BAP_OUTPUTS = ("bap_valid_image", "padded_mask", "cell_count", "queries", "valid_flat_ids")
BAP_OUTPUTS += ("target",)
BAP_BY_MODE = ("pooled", "logits", "loss", "grad_features", "grad_classifier")


@check(
    method="bana",
    prefix="bap_",
    arrays=BAP_INPUTS + BAP_OUTPUTS + tuple(f"{name}_ac#" for name in BAP_BY_MODE),
)
def bana_bap(arrays: Arrays) -> list[Comparison]:
    """Queries, attention, pooled features, logits, loss and both gradients, in both sampling conventions."""
    mask, grid = _tensor(arrays["bg_mask"])[:, 0].float(), int(arrays["grid_size"])
    map_size = arrays["features"].shape[2:]
    small = functional.interpolate(mask[:, None], size=map_size, mode="nearest")
    _, counts = query_weights(small[:, 0], grid)
    padded = functional.pad(small, grid_padding(*map_size, grid))
    boxes = _tensor(arrays["boxes_px"])
    unit = unit_boxes(boxes[:, :4], tuple(arrays["crop_hw"].tolist()))
    enough = (mask.mean(dim=(1, 2)) > 0.125).numpy()
    out = [
        close("boxes_norm", torch.cat([unit, boxes[:, 4:]], dim=1), arrays["boxes_norm"]),
        exact("bap_valid_image", enough, arrays["bap_valid_image"]),
        exact("padded_mask", padded, arrays["padded_mask"]),
        exact("cell_count", counts, arrays["cell_count"]),
    ]
    for mode in cases(arrays, "loss_ac#"):
        out += _bap_in_one_mode(arrays, mask, mode)
    return out


def _bap_in_one_mode(arrays: Arrays, mask: torch.Tensor, mode: int) -> list[Comparison]:
    features = _tensor(arrays["features"]).requires_grad_()
    weight = _tensor(arrays["classifier_weight"]).requires_grad_()
    boxes = _tensor(arrays["boxes_norm"])
    lattice = box_lattice(
        boxes[:, :4],
        _tensor(arrays["batch_id"]),
        tuple(features.shape[2:]),
        tuple(arrays["roi_size"].tolist()),
        align_corners=bool(mode),
    )
    pooled = background_aware_pooling(features, mask, lattice, int(arrays["grid_size"]))
    logits, targets = _rows(pooled, weight, boxes[:, 4].long())
    loss = mean_cross_entropy(logits, targets)
    gradients = torch.autograd.grad(loss, [features, weight])
    counted = targets != -100
    shape = (len(boxes), *arrays["roi_size"].tolist(), features.shape[1])
    valid = pooled.valid.flatten().nonzero()[:, 0]
    found = {
        "pooled": pooled.windows.reshape(shape).permute(0, 3, 1, 2),
        "logits": logits[counted],
        "loss": loss,
    }
    out = [
        exact("target", targets[counted], arrays["target"]),
        close("queries", pooled.queries.detach(), arrays["queries"]),
        exact("valid_flat_ids", valid, arrays["valid_flat_ids"]),
    ]
    for name, value in found.items():
        out.append(close(f"{name}_ac{mode}", value.detach(), arrays[f"{name}_ac{mode}"]))
    for name, value in zip(("grad_features", "grad_classifier"), gradients, strict=True):
        expected = arrays[f"{name}_ac{mode}"]
        out.append(close(f"{name}_ac{mode}", value, expected, rtol=1e-3, atol=1e-6))
    points = pooled.attention.detach().split(lattice.sizes.prod(dim=1).tolist())
    for i, (size, values) in enumerate(zip(lattice.sizes.tolist(), points, strict=True)):
        name = f"fg_attention_box{i}_ac{mode}"
        out.append(exact(f"roi_hw_box{i}", size, arrays[f"roi_hw_box{i}"]))
        out.append(close(name, values.view(size), arrays[name]))
    return out


def _rows(
    pooled: Pooled, weight: torch.Tensor, classes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.cat([pooled.windows.flatten(0, 1), pooled.queries.flatten(0, 1)])
    windows = pooled.windows.shape[1]
    return rows @ weight.T, classification_targets(classes, windows, pooled.valid)


@check(method="bana", prefix="weighted_pool", arrays=("x#", "w#", "out_hw#", "y#"))
def bana_weighted_pool(arrays: Arrays) -> list[Comparison]:
    """Weighted means of windows that overlap, repeat a row, or have no weight."""
    out = []
    for i in cases(arrays, "x#"):
        features, weights = _tensor(arrays[f"x{i}"]), _tensor(arrays[f"w{i}"])
        size, windows = tuple(weights.shape), tuple(arrays[f"out_hw{i}"].tolist())
        points = grid_points(size, size)
        lattice = make_lattice(torch.tensor([size]), torch.tensor([0]), points, windows)
        means = window_means(features.flatten(1).T, weights.flatten(), lattice.windows.T)
        out.append(close(f"y{i}", means.T.reshape(-1, *windows), arrays[f"y{i}"]))
    return out


@check(method="bana", prefix="pad_for_grid", arrays=("x#", "g#", "y#", "count_gt1p5_#"))
def bana_pad_for_grid(arrays: Arrays) -> list[Comparison]:
    """Where the zeros go, and which pixels are in which cell."""
    out = []
    for i in cases(arrays, "x#"):
        values, grid = _tensor(arrays[f"x{i}"]), int(arrays[f"g{i}"])
        padded = functional.pad(values, grid_padding(*values.shape, grid))
        cells = grid_cells(*values.shape, grid)[values > 1.5]
        counts = torch.bincount(cells, minlength=grid**2)
        out.append(exact(f"y{i}", padded, arrays[f"y{i}"]))
        out.append(exact(f"count_gt1p5_{i}", counts, arrays[f"count_gt1p5_{i}"]))
    return out


TRANSFORMS = ("img", "boxes", "bg", "label", "crop", "scale_rand_crop_flip", "out_img_bgr")
TRANSFORMS += ("out_boxes_px", "out_boxes_norm", "out_bg", "out_label")


@check(method="bana", prefix="transforms", arrays=tuple(f"{name}#" for name in TRANSFORMS))
def bana_transforms(arrays: Arrays) -> list[Comparison]:
    """Image, background and label of each crop; its boxes where the recorded ones do not leave it (pitfall P7)."""
    out = []
    for i in cases(arrays, "img#"):
        image, boxes = arrays[f"img{i}"], arrays[f"boxes{i}"]
        # the shortest decimal is what was drawn: 0.7 of 60 pixels are 42, its single precision would make 41 of them
        scale, x, y, flip = (float(str(value)) for value in arrays[f"scale_rand_crop_flip{i}"])
        height, width = crop = tuple(arrays[f"crop{i}"].tolist())
        transform = CropTransform(image.shape[:2], crop, Draw(scale, x, y, flip > 0.5))
        bgr = transform.image(image)[:, :, ::-1] - CAFFE_MEAN_BGR
        found, seen = transform.boxes(boxes[:, :4])
        recorded = arrays[f"out_boxes_px{i}"]
        unit = unit_boxes(_tensor(found), crop)
        recorded_unit = arrays[f"out_boxes_norm{i}"]
        far = np.array([width, height, width, height])
        expected = np.column_stack([recorded[:, :4].clip(0, far), recorded[:, 4]])
        far = far / ((far - 1) / 2) - 1
        expected_unit = np.column_stack([recorded_unit[:, :4].clip(-1, far), recorded_unit[:, 4]])
        out += [
            absolute(f"out_img_bgr{i}", bgr.transpose(2, 0, 1), arrays[f"out_img_bgr{i}"], 1e-2),
            exact(f"out_bg{i}", transform.label(arrays[f"bg{i}"], 0), arrays[f"out_bg{i}"]),
            exact(
                f"out_label{i}", transform.label(arrays[f"label{i}"], 255), arrays[f"out_label{i}"]
            ),
            close(f"out_boxes_px{i}", np.column_stack([found, boxes[seen, 4]]), expected),
            close(f"out_boxes_norm{i}", np.column_stack([unit, boxes[seen, 4]]), expected_unit),
        ]
    return out


SCHEDULES = {
    "stage1": "bana_classifier_vgg16_voc",
    "stage3_vgg": "deeplab_v1_vgg16_voc",
    "stage3_res": "deeplab_v2_R_101_voc",
}
"""Their configs."""


@check(
    method="bana",
    prefix="schedules",
    arrays=tuple(f"{name}_lr{end}" for name in SCHEDULES for end in ("", "_it")),
)
def bana_schedules(arrays: Arrays) -> list[Comparison]:
    """Learning rates of the published configs at 1-based iterations, before the step of that iteration."""
    out = []
    for name, config in SCHEDULES.items():
        rates = _rates(config, arrays[f"{name}_lr_it"].tolist())
        out.append(close(f"{name}_lr", rates, arrays[f"{name}_lr"], rtol=1e-4, atol=1e-12))
    return out


def _rates(config: str, iterations: list[int]) -> list[float]:
    cfg = load_cfg(CONFIGS / f"{config}.yaml")
    rate, last = cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = WsisTrainer.build_lr_scheduler(cfg, optimizer)
    return [rate * schedule._multiplier((i - 1) / last) for i in iterations]
