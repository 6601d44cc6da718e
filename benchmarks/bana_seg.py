"""What BANA's third stage costs: the noise-aware loss, and the mean over eight passes, against the plain ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from benchmarks.timing import Row, forget_peak, interleave, memory, timing_rows
from wsis.config import get_cfg
from wsis.layers.deeplab import resize_scores
from wsis.layers.label_maps import mean_over_scales
from wsis.methods.bana import BANASegmentor
from wsis.methods.bana.nal import IGNORE, NoiseParams, common_label, noise_aware_loss
from wsis.methods.bana.seg_inference import Scorer, multi_scale

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, NoiseParams], dict[str, torch.Tensor]]


def benchmark_bana_seg(
    batch: int = 4,
    crop: int = 321,
    classes: int = 21,
    width: float = 0.125,
    repeats: int = 5,
) -> list[Row]:
    """Forward and backward of the noise-aware loss against correlation maps at full size with lists of pixels; then an
    image at four scales, mirrored and not, against one forward pass for each whose features are enlarged before the
    classifier.

    Memory is the highest of the process above what it held before. ``pixels that differ`` are those whose label is not
    the plain way's.

    Args:
        batch: crops.
        crop: side of a crop, and of the image, in pixels.
        classes: background included.
        width: of the VGG-16 that labels the image, in units of the published one.
        repeats: rounds that count.
    """
    return benchmark_nal(batch, crop, classes, repeats) + benchmark_multi_scale(
        crop, classes, width, repeats
    )


def benchmark_nal(batch: int, crop: int, classes: int, repeats: int) -> list[Row]:
    """Rows of the loss; arguments as :func:`benchmark_bana_seg`."""
    generator = torch.Generator().manual_seed(0)
    side = (crop + 7) // 8
    cosines = 2 * torch.rand(batch, classes, side, side, generator=generator) - 1
    low = torch.randint(classes, (batch, 1, side, side), generator=generator).float()
    y_crf = functional.interpolate(low, size=(crop, crop))[:, 0].to(torch.uint8)
    # a third of the pixels is unreliable
    y_ret = torch.where(
        torch.rand(batch, crop, crop, generator=generator) < 0.33, (y_crf + 1) % classes, y_crf
    ).to(torch.uint8)

    def step(loss: Loss) -> None:
        leaf = cosines.clone().requires_grad_()
        logits = resize_scores(leaf, (crop, crop))
        losses = loss(logits, y_crf, y_ret, NoiseParams())
        (losses["loss_ce"] + losses["loss_wce"]).backward()

    plain = "NAL, maps of full size and lists of pixels (plain)"
    ways = {plain: partial(step, plain_noise_aware_loss), "NAL": partial(step, noise_aware_loss)}
    peaks = {name: _peak(work) for name, work in ways.items()}
    rows = timing_rows(interleave(ways, repeats), plain)
    for row in rows:
        row["MiB"] = peaks[row["way"]] / 2**20
        row["memory / plain"] = peaks[row["way"]] / max(peaks[plain], 1)
    return rows


def plain_noise_aware_loss(
    logits: torch.Tensor, y_crf: torch.Tensor, y_ret: torch.Tensor, params: NoiseParams
) -> dict[str, torch.Tensor]:
    """:func:`wsis.methods.bana.nal.noise_aware_loss` as one writes it down first."""
    label = common_label(y_crf, y_ret)
    agreed = functional.cross_entropy(
        params.temperature * logits, label.long(), ignore_index=IGNORE
    )
    pixels = ((label == IGNORE) & (y_crf != IGNORE)).flatten().nonzero()[:, 0].tolist()
    correlation = (1 + logits).permute(0, 2, 3, 1).flatten(0, 2)[pixels]
    scores = (params.temperature * logits).permute(0, 2, 3, 1).flatten(0, 2)[pixels]
    target = y_crf.flatten()[pixels].long()
    own = correlation.gather(1, target[:, None])[:, 0]
    sigma = (own / correlation.max(dim=1).values) ** params.damping
    losses = functional.cross_entropy(scores, target, reduction="none")
    return {"loss_ce": agreed, "loss_wce": params.weight * (sigma * losses).sum() / sigma.sum()}


def _peak(work: Callable[[], object]) -> int:
    """Bytes of the process at its highest above what it holds before."""
    before = memory()
    forget_peak()
    work()
    return max(memory("VmHWM") - before, 0)


def benchmark_multi_scale(side: int, classes: int, width: float, repeats: int) -> list[Row]:
    """Rows of the labelling; arguments as :func:`benchmark_bana_seg`."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_atrous_vgg16_backbone"
    cfg.MODEL.VGG.WIDTH = width
    cfg.MODEL.VGG.FC6_DILATION = 12
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    model = BANASegmentor(cfg).eval()
    image = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
    scales, size = cfg.MODEL.BANA_SEG.SCALES, (side, side)

    @torch.no_grad()
    def in_pairs() -> torch.Tensor:
        return multi_scale(model.scores, image, size, scales)

    @torch.no_grad()
    def one_by_one(score: Scorer) -> torch.Tensor:
        maps = []
        for scale in scales:
            scaled = resize_scores(image[None], (int(scale * side), int(scale * side)))
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
