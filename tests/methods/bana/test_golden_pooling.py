"""Stage 1's golden checks take other sizes, numbers and edges than the recorded ones: arrays that plain loops make from
the paper's formulas have to pass too, and spoiled ones have not.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.golden.frame import choose, load_checks
from tests.methods.bana import plain
from wsis.methods.bana import pooling
from wsis.methods.bana.pooling import PoolingParams

Arrays = dict[str, np.ndarray]


def off(name: str, arrays: Arrays) -> list[str]:
    """What the check of this file finds wrong."""
    chosen = choose(load_checks(), f"{name}.npz", "bana", arrays)
    assert chosen is not None
    return [str(item) for item in chosen.run(arrays) if not item.passed]


def make_bap(
    boxes: list[list[float]],
    images: int = 2,
    crop: tuple[int, int] = (65, 81),
    map_size: tuple[int, int] = (9, 11),
    grid: int = 4,
    roi: tuple[int, int] = (2, 2),
    classes: int = 21,
    covered: tuple[int, ...] = (),
) -> Arrays:
    """A file ``bap_*``; boxes are (image, x0, y0, x1, y1, class), image by image; ``covered`` images have no
    background.
    """
    generator = torch.Generator().manual_seed(len(boxes) + grid)
    given = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 6)
    mask = torch.ones(images, 1, *crop)
    for n, x0, y0, x1, y1, _ in given.int().tolist():
        mask[n, 0, y0 : y1 + 1, x0 : x1 + 1] = 0
    mask[list(covered)] = 0
    out: dict[str, Any] = {
        "features": torch.rand(images, 5, *map_size, generator=generator),
        "classifier_weight": torch.randn(classes, 5, generator=generator),
        "bg_mask": mask.byte(),
        "boxes_px": given[:, 1:],
        "boxes_norm": unit(given[:, 1:], crop),
        "batch_id": given[:, 0].long(),
        "crop_hw": torch.tensor(crop),
        "grid_size": torch.tensor(grid),
        "roi_size": torch.tensor(roi),
        "bap_valid_image": mask.mean(dim=(1, 2, 3)) > 0.125,
        "padded_mask": plain.pad(plain.nearest(mask, map_size), grid),
    }
    for mode in (0, 1):
        out |= _bap_of_mode(out, PoolingParams(True, grid, roi, bool(mode)))
    return {name: value.detach().numpy() for name, value in out.items()}


def unit(boxes: Any, crop: tuple[int, int]) -> Any:
    """Boxes (K, 5) in pixels of a crop, -1 and 1 on the centres of its first and last pixel."""
    boxes = boxes + 0
    boxes[:, 0:4:2] = boxes[:, 0:4:2] / ((crop[1] - 1) / 2) - 1
    boxes[:, 1:4:2] = boxes[:, 1:4:2] / ((crop[0] - 1) / 2) - 1
    return boxes


def _bap_of_mode(given: dict[str, Any], params: PoolingParams) -> dict[str, torch.Tensor]:
    features = given["features"].clone().requires_grad_()
    weight = given["classifier_weight"].clone().requires_grad_()
    boxes, mask = given["boxes_norm"], given["bg_mask"][:, 0].float()
    vectors, queries, counts, attention = plain.pool_box_by_box(
        features, mask, boxes, given["batch_id"], params
    )
    valid = (counts > 0).flatten().nonzero()[:, 0]
    classes = boxes[:, 4].long().repeat_interleave(vectors.shape[1])
    target = torch.cat([classes, torch.zeros_like(valid)])
    logits = torch.cat([vectors.flatten(0, 1), queries.flatten(0, 1)[valid]]) @ weight.T
    loss = functional.cross_entropy(logits, target)
    pooled = vectors.transpose(1, 2).unflatten(2, params.roi_size)
    found = (pooled, logits, loss, *torch.autograd.grad(loss, [features, weight]))
    names = ("pooled", "logits", "loss", "grad_features", "grad_classifier")
    mode = int(params.align_corners)
    out = {f"{k}_ac{mode}": v for k, v in zip(names, found, strict=True)}
    for i, a in enumerate(attention):
        out |= {f"roi_hw_box{i}": torch.tensor(a.shape), f"fg_attention_box{i}_ac{mode}": a}
    return out | {
        "queries": queries,
        "cell_count": counts,
        "valid_flat_ids": valid,
        "target": target,
    }


BAP = {
    "one class": {"boxes": [[0, 5.5, 7, 40, 60, 1]], "images": 1, "classes": 2},
    "an image without boxes": {
        "boxes": [[0, 3, 4, 30, 33, 2], [2, 10, 9, 77, 50, 20], [2, 0, 0, 81, 65, 3]],
        "images": 3,
    },
    "no box at all": {"boxes": [], "grid": 3},
    "no background": {"boxes": [[1, 8, 8, 30, 40, 5]], "covered": (1,)},
    "no query": {"boxes": [[0, 8, 8, 30, 40, 5]], "images": 1, "covered": (0,)},
    "thin boxes": {
        "boxes": [
            *([0, 20, 8, 20, 40, 5], [0, 16, 8, 17, 9, 1], [0, 40, 32, 40, 32, 4]),
            *([1, 0, 0, 1, 65, 2], [1, 0, 0, 0, 64, 3], [1, 80, 64, 80, 64, 1]),
        ]
    },
    "boxes of all of the image": {"boxes": [[0, 0, 0, 80, 64, 5], [1, 0, 0, 81, 65, 6]]},
    "a grid of 5, windows of 3 and 1": {
        "boxes": [[0, 3, 4, 30, 33, 2], [1, 10, 9, 77, 50, 6]],
        "grid": 5,
        "roi": (3, 1),
        "classes": 81,
    },
    "one cell, a crop of other sides": {
        "boxes": [[0, 3, 4, 30, 33, 2]],
        "grid": 1,
        "roi": (1, 4),
        "crop": (33, 97),
        "map_size": (5, 13),
    },
}


@pytest.mark.parametrize("name", BAP)
def test_pooling_of_any_batch(name: str) -> None:
    arrays = make_bap(**BAP[name])
    assert all(np.isfinite(values).all() for values in arrays.values())
    assert off("bap_other", arrays) == []
    for spoiled in ("queries", "logits_ac1", "grad_features_ac0", "boxes_norm"):
        if arrays[spoiled].any():
            assert off("bap_other", arrays | {spoiled: arrays[spoiled] * 1.01}) != []


def test_a_detached_attention_has_another_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = pooling.background_attention
    monkeypatch.setattr(pooling, "background_attention", lambda *a: attention(*a).detach())
    found = off("bap_other", make_bap(**BAP["an image without boxes"]))
    assert [line.partition(":")[0] for line in found] == ["grad_features_ac0", "grad_features_ac1"]


def test_windows_of_any_size() -> None:
    generator = torch.Generator().manual_seed(3)
    arrays: Arrays = {}
    sizes = [(1, 1, 3, 3), (2, 7, 3, 3), (3, 1, 1, 2), (13, 5, 2, 4), (8, 8, 1, 1)]
    for i, (height, width, rows, columns) in enumerate(sizes):
        x = torch.randn(4, height, width, generator=generator)
        w = torch.rand(height, width, generator=generator)
        w[: height // 2] = 0
        arrays |= {f"x{i}": x.numpy(), f"w{i}": w.numpy(), f"out_hw{i}": np.array([rows, columns])}
        arrays[f"y{i}"] = plain.windows(x, w, (rows, columns)).numpy()
    assert off("weighted_pool_other", arrays) == []
    assert off("weighted_pool_other", arrays | {"y3": arrays["y3"] + 0.01}) != []


def test_a_grid_on_any_map() -> None:
    arrays: Arrays = {}
    generator = torch.Generator().manual_seed(4)
    for i, (height, width, grid) in enumerate([(1, 3, 4), (5, 5, 5), (42, 41, 4), (7, 10, 3)]):
        x = torch.randint(1, 3, (height, width), generator=generator).float()
        counts = [(c > 1.5).sum() for c in plain.cells(x, grid)]
        arrays |= {f"x{i}": x.numpy(), f"g{i}": np.array(grid), f"y{i}": plain.pad(x, grid).numpy()}
        arrays[f"count_gt1p5_{i}"] = np.array(counts)
    assert off("pad_for_grid_other", arrays) == []


def make_transform(
    size: tuple[int, int], crop: tuple[int, int], draw: tuple[float, ...], boxes: list[list[float]]
) -> Arrays:
    """A case of a file ``transforms``, the far edges of cut boxes one pixel beyond the crop as the release has them."""
    rng = np.random.default_rng(5)
    scale, u_x, u_y, flip = draw
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    background = rng.integers(0, 2, size, dtype=np.uint8)
    label = rng.integers(0, 21, size, dtype=np.uint8)
    height, width = (int(n * scale) for n in size)
    rows, columns = (
        -(-max(0, want - have) // 2) for want, have in zip(crop, (height, width), strict=True)
    )
    top = int(u_y * (height + 2 * rows - crop[0]))
    left = int(u_x * (width + 2 * columns - crop[1]))

    def cut(values: np.ndarray, mode: int, fill: Any) -> np.ndarray:
        resized = cv2.resize(values, (width, height), interpolation=mode)
        padded = np.empty((height + 2 * rows, width + 2 * columns, *values.shape[2:]), values.dtype)
        padded[:] = fill
        padded[rows : rows + height, columns : columns + width] = resized
        part = padded[top : top + crop[0], left : left + crop[1]]
        return part[:, ::-1] if flip else part

    found = []
    for box in boxes:
        x0, x1 = (box[k] * scale + columns - left for k in (0, 2))
        y0, y1 = (box[k] * scale + rows - top for k in (1, 3))
        if x0 < crop[1] and y0 < crop[0] and x1 > 0 and y1 > 0:
            x0, y0 = max(x0, 0), max(y0, 0)
            x1, y1 = min(x1, crop[1] + 1), min(y1, crop[0] + 1)
            x0, x1 = (crop[1] - x1, crop[1] - x0) if flip else (x0, x1)
            found.append([x0, y0, x1, y1, box[4]])
    pixels = np.array(found, np.float32).reshape(-1, 5)
    bgr = cut(image.astype(np.float32), cv2.INTER_LINEAR, (123, 117, 104))[..., ::-1]
    return {
        "img": image,
        "boxes": np.array(boxes, np.float32).reshape(-1, 5),
        "bg": background,
        "label": label,
        "crop": np.array(crop),
        "scale_rand_crop_flip": np.array(draw, np.float32),
        "out_img_bgr": (bgr - np.float32([104.008, 116.669, 122.675])).transpose(2, 0, 1),
        "out_boxes_px": pixels,
        "out_boxes_norm": unit(pixels, crop),
        "out_bg": cut(background, cv2.INTER_NEAREST, 0),
        "out_label": cut(label, cv2.INTER_NEAREST, 255),
    }


TRANSFORMS = [
    ((60, 80), (41, 33), (0.7, 0.3, 0.6, 1.0), [[5, 6, 40, 50, 3], [70, 50, 79, 59, 7]]),
    ((50, 70), (25, 33), (0.9, 0.7, 0.2, 0.0), [[0, 0, 70, 50, 1], [69, 49, 70, 50, 2]]),
    ((40, 30), (64, 64), (1.3, 0.9, 0.7, 1.0), [[1.5, 2.25, 30, 40, 20]]),
    ((90, 90), (33, 41), (1.4, 0.7, 0.9, 0.0), [[0, 0, 2, 2, 4]]),
    ((21, 90), (33, 41), (1.1, 0.0, 0.5, 1.0), []),
]


def test_crops_of_any_draw() -> None:
    arrays = {
        f"{name}{i}": values
        for i, case in enumerate(TRANSFORMS)
        for name, values in make_transform(*case).items()
    }
    assert off("transforms_other", arrays) == []
    for spoiled in ("out_boxes_px0", "out_boxes_norm1", "out_img_bgr2", "out_label3"):
        wrong = np.roll(arrays[spoiled], 1, axis=-1)
        assert off("transforms_other", arrays | {spoiled: wrong}) != []


def test_a_scale_in_single_precision_is_the_decimal_that_was_drawn() -> None:
    assert int(60 * 0.7) == 42 and int(60 * float(np.float32(0.7))) == 41
    case = make_transform((60, 80), (33, 33), (0.7, 0.5, 0.5, 0.0), [])
    assert off("transforms", {f"{name}0": values for name, values in case.items()}) == []
