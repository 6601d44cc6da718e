"""What makes BBAM fast, and what that does to its masks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, ImageList
from torch.nn import functional

from benchmarks.timing import Row, interleave, measure, timing_rows
from wsis.config import get_cfg, load_cfg
from wsis.data.dicts import to_dicts
from wsis.data.images import read_image
from wsis.data.mapper import TeacherDatasetMapper
from wsis.data.source import load_source
from wsis.engine.checkpoint import WsisCheckpointer
from wsis.engine.trainer import WsisTrainer
from wsis.errors import ConfigError
from wsis.methods.bbam import BBAM
from wsis.methods.bbam.explainer import ExplainerParams, explain
from wsis.methods.bbam.losses import fidelity, regulariser
from wsis.methods.bbam.meta_arch import frozen
from wsis.methods.bbam.targets import Target, class_deltas
from wsis.structures import ProxyMasks
from wsis.structures.rle import decode_mask, segmentation_to_rle

Changes = dict[str, Any]
EXACT = ("NUM_PROPOSALS", "MAX_POSITIVES", "STEPS", "LEARNING_RATE", "CONTEXT")
"""Keys of ``MODEL.BBAM`` that the exact mode has as published, whatever the config says."""
FAST: Changes = {"STEPS": 30, "LEARNING_RATE": 0.15, "MAX_POSITIVES": 16}
CURVE: dict[str, Changes] = {
    "exact, other proposals": {"SEED": 1},
    "100 steps of 0.05": {"STEPS": 100, "LEARNING_RATE": 0.05},
    "and 16 positives": {**FAST, "STEPS": 100, "LEARNING_RATE": 0.05},
    "40 steps of 0.15, 16 positives": {**FAST, "STEPS": 40},
    "30 steps of 0.15, 16 positives": FAST,
    "20 steps of 0.15, 16 positives": {**FAST, "STEPS": 20},
    "30 steps, 16 positives of 200": {**FAST, "NUM_PROPOSALS": 200},
    "30 steps, 32 px of context": {**FAST, "CONTEXT": 32},
    "30 steps, 16 px of context": {**FAST, "CONTEXT": 16},
}
"""Faster and faster; the first row is the noise floor."""


class Bench:
    """A detector and some boxes.

    Args:
        cfg: of BBAM; ``MODEL.WEIGHTS`` is the detector's checkpoint.
        json, images: a COCO file of boxes, and the folder of its images.
        truth: the same with masks, or "".
        boxes: so many are explained, from the file's first images.
        per_image: at most so many of an image; 0 = all.
        every: only each so-many-th image.
    """

    def __init__(
        self,
        cfg: CfgNode,
        json: str,
        images: str,
        truth: str,
        boxes: int,
        per_image: int = 0,
        every: int = 1,
    ) -> None:
        source = load_source(json, images, bad_box="skip")
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(source.class_names)
        model = WsisTrainer.build_model(cfg).eval()
        if not isinstance(model, BBAM):
            raise ConfigError(f"--config: found {cfg.MODEL.META_ARCHITECTURE}, expected BBAM")
        WsisCheckpointer(model).load(cfg.MODEL.WEIGHTS)
        self.model: BBAM = model
        mapper = TeacherDatasetMapper(cfg)
        self.inputs: list[dict[str, Any]] = []
        left = boxes
        for record in to_dicts(source, "box")[::every]:
            most = min(left, per_image or left)
            part = {**record, "annotations": record["annotations"][:most]}
            if part["annotations"]:
                self.inputs.append(mapper(part))
            left -= len(part["annotations"])
            if left <= 0:
                break
        self.boxes = boxes - max(left, 0)
        self.truth = _true_masks(truth, images) if truth else {}

    @contextlib.contextmanager
    def changed(self, changes: Changes) -> Iterator[None]:
        """The model with other values of ``MODEL.BBAM``."""
        model = self.model
        saved = model.explainer, model.target_params, model.context
        proposals = model.target_params.proposals
        model.explainer = replace(
            model.explainer,
            steps=changes["STEPS"],
            learning_rate=changes["LEARNING_RATE"],
        )
        proposals = replace(
            proposals, count=changes["NUM_PROPOSALS"], limit=changes["MAX_POSITIVES"]
        )
        seed = changes.get("SEED", model.target_params.seed)
        model.target_params = replace(model.target_params, proposals=proposals, seed=seed)
        model.context = changes["CONTEXT"]
        try:
            yield
        finally:
            model.explainer, model.target_params, model.context = saved

    def explain_all(self, changes: Changes) -> tuple[list[ProxyMasks], float, float]:
        """Masks of all images; seconds of explaining, and of the CRF, in CPU time."""
        seeds: list[Any] = []

        def run() -> None:
            with torch.no_grad():
                seeds.extend(self.model.propose([each])[0] for each in self.inputs)

        with self.changed(changes):
            _, seconds = measure(run)
        refine = self.model.refiner()
        masks: list[ProxyMasks] = []
        _, crf_seconds = measure(
            lambda: masks.extend(refine(seed, read_image(seed.file_name)) for seed in seeds)
        )
        return masks, seconds, crf_seconds

    def targets(self, changes: Changes) -> list[tuple[torch.Tensor, list[Target]]]:
        """Per image the network's input, and the targets that have proposals."""
        found = []
        with self.changed(changes), torch.no_grad():
            for each in self.inputs:
                image = self.model.view.normalise(each["image"])
                instances = each["instances"]
                targets = self.model.view.targets(
                    image,
                    instances.gt_boxes.tensor.to(image),
                    instances.gt_classes.tolist(),
                    instances.annotation_ids.tolist(),
                    self.model.target_params,
                )
                targets = [target for target in targets if len(target.proposals)]
                if targets:
                    found.append((image, targets))
        return found

    def accuracy(self, masks: Sequence[ProxyMasks]) -> float:
        """Mean IoU with the true masks; NaN without them."""
        values = [
            0.0 if status == "empty" else _iou(decode_mask(rle), self.truth[number])
            for each in masks
            for rle, number, status in zip(
                each.masks, each.annotation_ids, each.status, strict=True
            )
            if number in self.truth
        ]
        return float(np.mean(values)) if values else float("nan")


def _true_masks(truth: str, images: str) -> dict[int, np.ndarray]:
    source = load_source(truth, images, bad_box="skip")
    sizes = {image["id"]: (image["height"], image["width"]) for image in source.images}
    return {
        each["id"]: decode_mask(segmentation_to_rle(each["segmentation"], *sizes[each["image_id"]]))
        for each in source.annotations
    }


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def agreement(first: Sequence[ProxyMasks], second: Sequence[ProxyMasks]) -> float:
    """Mean IoU of two lots of masks, box by box; two empty masks agree."""
    values = [
        _iou(decode_mask(a), decode_mask(b))
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one.masks, other.masks, strict=True)
    ]
    return float(np.mean(values))


def plain_loop(
    bench: Bench,
    jobs: list[tuple[torch.Tensor, list[Target]]],
    params: ExplainerParams,
    rpn: bool = True,
) -> list[torch.Tensor]:
    """One box at a time as one would write it down: the detector's whole forward pass, its own proposals too
    (``rpn``), and a backward pass to all that asks for a gradient.
    """
    return [_plain(bench.model, image, target, params, rpn) for image, ts in jobs for target in ts]


def _plain(
    model: BBAM, image: torch.Tensor, target: Target, params: ExplainerParams, rpn: bool
) -> torch.Tensor:
    detector: Any = model.detector
    size = (image.shape[-2], image.shape[-1])
    mask = target.mask.clone().requires_grad_()
    optimiser = torch.optim.Adam([mask], lr=params.learning_rate)
    rows = torch.arange(len(target.proposals), device=image.device)
    label = target.class_index
    for _ in range(params.steps):
        optimiser.zero_grad()
        detector.zero_grad()
        shown = functional.interpolate(mask[None, None], size, mode="bilinear", align_corners=True)
        features = detector.backbone(image * shown)
        if rpn:
            detector.proposal_generator(ImageList(image[None], [size]), features, None)
        heads = detector.roi_heads
        pooled = heads.box_pooler(
            [features[name] for name in heads.in_features], [Boxes(target.proposals)]
        )
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        moved = fidelity(
            logits.softmax(dim=1)[rows, label],
            class_deltas(deltas, torch.full_like(rows, label)),
            target.scores,
            target.deltas,
        )
        (moved.mean() + regulariser(mask, params.objective)).backward()
        optimiser.step()
        with torch.no_grad():
            mask.clamp_(0, 1)
    return mask.detach()


def batched(
    bench: Bench, jobs: list[tuple[torch.Tensor, list[Target]]], params: ExplainerParams, size: int
) -> list[torch.Tensor]:
    """The exact mode: no other proposals, no gradients of weights, ``size`` boxes of an image at a time."""
    with frozen(bench.model):
        return [
            mask
            for image, targets in jobs
            for start in range(0, len(targets), size)
            for mask in explain(
                bench.model.view.forward, image, targets[start : start + size], params
            )
        ]


def benchmark_bbam(
    config: str = "configs/BBAM/bbam_R_18_FPN_shapes_quickstart.yaml",
    weights: str = "output/demo/detector/model_final.pth",
    json: str = "output/demo/data/annotations/shapes_train_boxes.json",
    images: str = "output/demo/data/images",
    truth: str = "output/demo/data/annotations/shapes_train.json",
    boxes: int = 24,
    per_image: int = 0,
    every: int = 1,
    most_steps: int = 300,
    plain_boxes: int = 6,
    plain_steps: int = 5,
    repeats: int = 3,
    masks: int = 0,
) -> list[Row]:
    """BBAM against the plain loop, and faster modes against the exact one.

    First the exact mode against a loop of one box at a time with the whole detector and gradients of its weights,
    step by step the same; then masks after the CRF and their seconds for faster settings.

    Args:
        config: of BBAM.
        weights: of its detector.
        json, images: boxes to explain.
        truth: the same with masks; "" = unknown.
        boxes: so many; 0 = no faster modes.
        per_image, every: at most so many of an image (0 = all), and only each so-many-th image.
        most_steps: leaves out the slower ones of the faster modes, and below 300 the noise floor.
        plain_boxes, plain_steps: of the comparison with the plain loop.
        repeats: of that comparison.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg = load_cfg(config, ["MODEL.WEIGHTS", weights, "MODEL.DEVICE", device])
    published = get_cfg().MODEL.BBAM
    exact: Changes = {key: published[key] for key in EXACT}
    rows = _against_plain(
        Bench(cfg.clone(), json, images, "", plain_boxes), exact, plain_steps, repeats
    )
    if masks:
        rows.append(_masks_of_plain_loop(Bench(cfg.clone(), json, images, "", masks), exact))
    if boxes:
        bench = Bench(cfg, json, images, truth, boxes, per_image, every)
        curve = {k: v for k, v in CURVE.items() if {**exact, **v}["STEPS"] <= most_steps}
        rows += _curve(bench, exact, curve)
    return rows


def _against_plain(bench: Bench, exact: Changes, steps: int, repeats: int) -> list[Row]:
    jobs = bench.targets(exact)
    params = replace(bench.model.explainer, steps=steps, learning_rate=exact["LEARNING_RATE"])
    size = bench.model.boxes_per_batch
    ways: dict[str, Callable[[], object]] = {
        "plain loop": lambda: plain_loop(bench, jobs, params),
        "one box at a time": lambda: batched(bench, jobs, params, 1),
        f"exact mode, {size} boxes at a time": lambda: batched(bench, jobs, params, size),
    }
    rows = timing_rows(interleave(ways, repeats), "plain loop")
    bench.model.double()
    jobs = [(image.double(), [_double(target) for target in ts]) for image, ts in jobs]
    short = replace(params, steps=20)
    plain = plain_loop(bench, jobs[:1], short, rpn=False)  # NMS has no float64
    ours = batched(bench, jobs[:1], short, size)
    bench.model.float()
    worst = max(float((a - b).abs().max()) for a, b in zip(plain, ours, strict=True))
    return [*rows, {"float64, 20 steps": "largest difference of a mask", "value": worst}]


def _masks_of_plain_loop(bench: Bench, exact: Changes) -> Row:
    """How far masks after the CRF agree between the plain loop and the exact mode, all steps in float32."""
    model = bench.model
    ours, *_ = bench.explain_all(exact)

    def explain_plainly(
        image: torch.Tensor, targets: list[Target], fill: torch.Tensor | None, windows: object
    ) -> list[torch.Tensor]:
        with torch.enable_grad():
            return [_plain(model, image, each, model.explainer, rpn=False) for each in targets]

    model.__dict__["_explain"] = explain_plainly
    try:
        plain, *_ = bench.explain_all(exact)
    finally:
        del model.__dict__["_explain"]
    return {
        "float32, all steps": "mean IoU of masks after the CRF",
        "value": agreement(plain, ours),
    }


def _double(target: Target) -> Target:
    tensors = ("proposals", "scores", "deltas", "mask")
    return replace(target, **{name: getattr(target, name).double() for name in tensors})


def _curve(bench: Bench, exact: Changes, curve: dict[str, Changes]) -> list[Row]:
    rows: list[Row] = []
    first = bench.explain_all(exact)
    reference, slowest, _ = first
    for name, changes in {"exact": {}, **curve}.items():
        made = bench.explain_all({**exact, **changes}) if changes else first
        masks, seconds, crf_seconds = made
        rows.append(
            {
                "mode": name,
                "CPU s / box": seconds / bench.boxes,
                "times as fast": slowest / seconds,
                "IoU with exact": agreement(masks, reference),
                "proxy mIoU": bench.accuracy(masks),
                "CRF s / box": crf_seconds / bench.boxes,
            }
        )
    return rows
