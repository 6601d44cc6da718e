"""Golden checks of labels and of inference take other sizes, numbers and edges than the recorded ones: arrays that
plain loops make from the paper's formulas have to pass too, and spoiled ones have not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.masks import needs_crf
from tests.methods.bana.plain import cosine
from tests.methods.bana.test_golden_pooling import off
from wsis.layers.dense_crf import DenseCRFParams, dense_crf

DCRF = np.float32([4, 20, 10, 3, 2])
CRF = DenseCRFParams(3.0, 2.0, 4.0, 20.0, 10.0, 10)


def check(name: str, values: dict[str, Any], spoil: Callable[[Any], Any], *spoiled: str) -> None:
    """The check passes, and not with one of these arrays spoiled."""
    arrays = {each: np.asarray(value) for each, value in values.items()}
    assert off(name, arrays) == []
    for each in spoiled:
        wrong = spoil(arrays[each])
        if not np.array_equal(wrong, arrays[each]):
            assert off(name, arrays | {each: wrong}) != []


def crf(image: np.ndarray, probabilities: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(dense_crf(image, probabilities.numpy(), CRF))


def enlarged(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=True)[0]


def make_stage2(
    boxes: list[list[int]], size: tuple[int, int] = (37, 52), channels: int = 6, classes: int = 21
) -> dict[str, Any]:
    """A file ``stage2_*``; boxes are (x0, y0, x1, y1, class)."""
    generator = torch.Generator().manual_seed(len(boxes))
    small = torch.rand(channels, *(n // 8 + 1 for n in size), generator=generator)
    weight = torch.randn(classes, channels, generator=generator)
    image = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8).numpy()
    f = enlarged(small, size)
    ids = sorted({box[4] for box in boxes})
    regions = torch.zeros(len(ids), *size, dtype=torch.bool)
    cams = torch.zeros(len(ids), *size)
    for x0, y0, x1, y1, c in boxes:
        where = (ids.index(c), slice(y0, y1), slice(x0, x1))
        regions[where] = True
        score = torch.einsum("c,chw->hw", weight[c], f).relu()[where[1:]]
        cams[where] = score / (score.max() + 1e-12)
    inside = regions.any(dim=0)
    query = (f * ~inside).sum(dim=(1, 2)) / ((~inside).sum() + 1e-12)
    attention = cosine(query, f).relu()
    attention[attention < 0.99 * attention.max()] = 0
    background = torch.where(inside, attention, 1.0)

    def label(scores: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        masked = torch.cat([scores[:1], scores[1:] * regions])
        return masked, np.array([0, *ids], np.uint8)[masked.argmax(dim=0).numpy()]

    def unary(first: torch.Tensor) -> torch.Tensor:
        stacked = torch.cat([first[None], cams])
        return torch.where(inside, stacked.softmax(dim=0), stacked)

    marginals = crf(image, unary(background))
    masked, y_crf = label(marginals)
    maps = []
    for c in [0, *ids]:
        where = torch.from_numpy(y_crf == c)
        there = where.any() and (c or (~inside).any())
        maps.append(cosine(f[:, where].mean(dim=1) if there else weight[c], f).relu())
    maps[0][~inside] = 1
    maps, y_ret = label(torch.stack(maps))
    without = torch.einsum("c,chw->hw", weight[0], f).relu() * ~inside
    without = without / (without.max() + 1e-12)
    corners = np.array(boxes, np.int64).reshape(-1, 5)
    out = {"boxes": corners, "boxes_used": corners, "class_ids": np.array(ids, np.int64)}
    out |= {"image_rgb": image, "bg_mask": (~inside).byte(), "features": small}
    out |= {"classifier_weight": weight, "bg_threshold": np.float32(0.99), "dcrf": DCRF}
    out |= {"query": query[None], "bg_attention_thresholded": attention, "bg_unary": background}
    out |= {"cam_norm": cams, "unary_prob": unary(background), "crf_prob": marginals}
    out |= {"crf_prob_boxmasked": masked, "corr_maps": maps, "bg_unary_no_u0": without}
    out |= {"Y_crf": y_crf, "Y_ret": y_ret, "Y_final": np.where(y_crf == y_ret, y_crf, 255)}
    return out | {"Y_crf_no_u0": label(crf(image, unary(without)))[1]}


FOUR = [[4, 3, 30, 29, 7], [20, 10, 45, 33, 1], [8, 8, 22, 36, 7], [0, 0, 9, 9, 20]]
STAGE2 = {
    "no box": {"boxes": []},
    "boxes that cover the image": {"boxes": [[0, 0, 52, 20, 3], [0, 18, 52, 37, 20]]},
    "a box of one pixel at the far corner": {"boxes": [[51, 36, 52, 37, 5], [4, 3, 30, 29, 5]]},
    "four classes": {"boxes": [*FOUR, [40, 2, 52, 20, 12], [2, 20, 12, 37, 7]]},
    "few classes on a large map": {
        **{"boxes": [[10, 12, 60, 70, 1], [30, 20, 97, 64, 2]], "size": (81, 97)},
        **{"channels": 3, "classes": 3},
    },
}


@needs_crf
@pytest.mark.parametrize("name", STAGE2)
def test_labels_of_any_boxes(name: str) -> None:
    spoiled = ("unary_prob", "corr_maps", "crf_prob_boxmasked", "Y_ret")
    arrays = make_stage2(**STAGE2[name])
    check("stage2_other", arrays, lambda v: np.roll(v, 5, axis=-1), *spoiled)


@needs_crf
def test_inference_of_any_image() -> None:
    generator = torch.Generator().manual_seed(8)
    size, temp = (43, 58), 6.0
    rgb = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8)
    bgr = rgb.flip(-1).permute(2, 0, 1).float()
    bgr = bgr - torch.tensor([104.008, 116.669, 122.675])[:, None, None]
    conv = torch.randn(5, 3, 3, 3, generator=generator) / 30
    weight = torch.randn(7, 5, generator=generator)

    def score(image: torch.Tensor) -> torch.Tensor:
        pooled = functional.avg_pool2d(image[None], 4, stride=4, ceil_mode=True)
        f = functional.normalize(functional.conv2d(pooled, conv, padding=1, stride=2).relu(), dim=1)
        return torch.einsum("nc,chw->nhw", functional.normalize(weight, dim=1), f[0])

    passes = []
    for scale in (1, 0.5, 0.75, 1.5):
        scaled = enlarged(bgr, (int(scale * size[0]), int(scale * size[1])))
        passes += [enlarged(score(scaled), size), enlarged(score(scaled.flip(-1)).flip(-1), size)]
    wrapped = np.trunc(bgr.numpy()).astype(np.int64).astype(np.uint8).transpose(1, 2, 0)
    out = {"image_rgb": rgb, "input_bgr": bgr, "conv_weight": conv, "classifier_weight": weight}
    out |= {"temp": temp, "dcrf": DCRF, "crf_image_as_reference": wrapped}
    for a, logits in enumerate((passes[0], torch.stack(passes).mean(dim=0))):
        out |= {f"logit_aug{a}": logits, f"pred_aug{a}_crf0": logits.argmax(dim=0)}
        for suffix, image in (("crf1", np.ascontiguousarray(wrapped)), ("crf_true_rgb", rgb)):
            marginals = crf(np.asarray(image), (temp * logits).softmax(dim=0))
            out[f"pred_aug{a}_{suffix}"] = marginals.argmax(dim=0)
    early = torch.stack([(temp * logits).softmax(dim=0) for logits in passes]).mean(dim=0)
    wrong = crf(rgb.numpy(), early).argmax(dim=0).numpy()
    check("infer_ms_flip", out, lambda _: wrong, "pred_aug1_crf_true_rgb")
