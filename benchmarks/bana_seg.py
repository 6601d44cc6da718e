"""What the labels of BANA's third stage cost: the mean over eight passes, against the plain way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.timing import Row, interleave, timing_rows
from wsis.config import get_cfg
from wsis.layers.deeplab import resize_scores
from wsis.layers.label_maps import mean_over_scales
from wsis.methods.bana import BANASegmentor
from wsis.modeling.semantic_inference import Scorer, multi_scale


def benchmark_bana_seg(
    crop: int = 321, classes: int = 21, width: float = 0.125, repeats: int = 5
) -> list[Row]:
    """An image at four scales, mirrored and not, against one forward pass for each whose features are enlarged before
    the classifier.

    ``pixels that differ`` are those whose label is not the plain way's.

    Args:
        crop: side of the image in pixels.
        classes: background included.
        width: of the VGG-16 that labels the image, in units of the published one.
        repeats: rounds that count.
    """
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_atrous_vgg16_backbone"
    cfg.MODEL.VGG.WIDTH = width
    cfg.MODEL.VGG.FC6_DILATION = 12
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    model = BANASegmentor(cfg).eval()
    image = torch.rand(3, crop, crop, generator=torch.Generator().manual_seed(0))
    scales, size = cfg.MODEL.SEGMENTOR.SCALES, (crop, crop)

    @torch.no_grad()
    def in_pairs() -> torch.Tensor:
        return multi_scale(model.scores, image, size, scales)

    @torch.no_grad()
    def one_by_one(score: Scorer) -> torch.Tensor:
        maps = []
        for scale in scales:
            scaled = resize_scores(image[None], (int(scale * crop), int(scale * crop)))
            maps += [score(scaled), score(scaled.flip(-1))]
        return mean_over_scales(maps, [False, True] * len(scales), size, align_corners=True)[0]

    def enlarged_first(images: torch.Tensor) -> torch.Tensor:
        features = model.head(list(model.backbone(images).values())[-1])
        return model.classifier(resize_scores(features, size))

    plain = "eight passes, one by one, features enlarged (plain)"
    ways: dict[str, Callable[[], torch.Tensor]] = {
        plain: partial(one_by_one, enlarged_first),
        "eight passes, one by one": partial(one_by_one, model.scores),
        "eight passes, mirror images in pairs": in_pairs,
    }
    rows = timing_rows(interleave(ways, repeats), plain)
    labels = {name: way().argmax(dim=0) for name, way in ways.items()}
    for row in rows:
        row["images / s"] = 1 / row["seconds"]
        row["pixels that differ"] = float((labels[row["way"]] != labels[plain]).float().mean())
    return rows
