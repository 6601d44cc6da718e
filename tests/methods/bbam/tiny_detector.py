"""Detectron2 detectors of a few channels that answer with class 0 and roughly the proposal itself."""

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_model
from detectron2.structures import Boxes, Instances
from torch import nn
from torch.nn import functional

from tests.masks import needs_crf as needs_crf
from wsis.config import load_cfg
from wsis.methods.bbam.detector import ExplainableDetector, explainable

SIZE = 64
BOXES = torch.tensor([[8.0, 6, 40, 38], [20, 18, 56, 60], [2, 30, 30, 62], [30, 4, 62, 30]])
KINDS = ("fpn", "agnostic", "c4", "cascade", "retina")
LEVELS = ["p2", "p3", "p4", "p5", "p6"]
RPN = {"POST_NMS_TOPK_TEST": 20, "IN_FEATURES": LEVELS}
HEADS = {"NAME": "StandardROIHeads", "NUM_CLASSES": 2, "IN_FEATURES": LEVELS[:4]}
BOX_HEAD = {"NAME": "FastRCNNConvFCHead", "NUM_FC": 1, "FC_DIM": 16, "POOLER_RESOLUTION": 5}
RESNET = {"NORM": "BN", "STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 8, "WIDTH_PER_GROUP": 4}
COMMON: dict[str, Any] = {
    "DEVICE": "cpu",
    "BACKBONE": {"NAME": "tiny_pyramid", "FREEZE_AT": 0},
    "ANCHOR_GENERATOR": {"SIZES": [[8], [16], [32], [64], [128]]},
    "RPN": RPN,
    "ROI_HEADS": {**HEADS, "BATCH_SIZE_PER_IMAGE": 16},
    "ROI_BOX_HEAD": BOX_HEAD,
    "BBAM": {
        **{"NUM_PROPOSALS": 12, "JITTER": 0.1, "MIN_IOU": [0.9, 0.7], "MAX_POSITIVES": 6},
        **{"STRIDE_BASE": 4.0, "STRIDE_SLOPE": 12.0, "STEPS": 20, "BOXES_PER_BATCH": 2},
        "TOP_CRF": {"BLUR_BASE": 2.0, "BLUR_SLOPE": 6.0, "BILATERAL_XY_STD": 20.0},
    },
}
SPECIAL: dict[str, dict[str, Any]] = {
    "fpn": {},
    "agnostic": {"ROI_BOX_HEAD": {"CLS_AGNOSTIC_BBOX_REG": True}},
    "c4": {
        "BACKBONE": {"NAME": "build_resnet_backbone"},
        "RESNETS": {**RESNET, "OUT_FEATURES": ["res4"]},
        "RPN": {"IN_FEATURES": ["res4"]},
        "ROI_HEADS": {"NAME": "Res5ROIHeads", "IN_FEATURES": ["res4"]},
        "ANCHOR_GENERATOR": {"SIZES": [[16, 32, 64]]},
    },
    "cascade": {
        "ROI_HEADS": {"NAME": "CascadeROIHeads"},
        "ROI_BOX_HEAD": {"CLS_AGNOSTIC_BBOX_REG": True},
        "RPN": {"POST_NMS_TOPK_TRAIN": 30},
    },
    "retina": {
        "META_ARCHITECTURE": "RetinaNet",
        "ANCHOR_GENERATOR": {"SIZES": [[s, s * 1.26, s * 1.59] for s in (26, 26, 32, 64, 64)]},
        "RETINANET": {"NUM_CLASSES": 2, "NUM_CONVS": 1, "IN_FEATURES": LEVELS},
        "BBAM": {"DETECTOR": "RetinaNet"},
    },
}


class TinyPyramid(Backbone):
    """Features p2 to p6 of strides 4 to 64, one convolution each."""

    size_divisibility = 32

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 4, 3)
        self.norm = nn.BatchNorm2d(8)
        self.steps = nn.ModuleList(nn.Conv2d(8, 8, 3, 2, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        levels = [functional.relu(self.norm(self.stem(x)))]
        for step in self.steps:
            levels.append(functional.relu(step(levels[-1])))
        levels.append(functional.max_pool2d(levels[-1], 1, 2))
        return {f"p{i}": level for i, level in enumerate(levels, start=2)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 7)}


@BACKBONE_REGISTRY.register()
def tiny_pyramid(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    return TinyPyramid()


def _opts(tree: dict[str, Any], prefix: str = "MODEL") -> list[str]:
    out: list[str] = []
    for key, value in tree.items():
        path = f"{prefix}.{key}"
        out += _opts(value, path) if isinstance(value, dict) else [path, str(value)]
    return out


def make_cfg(kind: str = "fpn", *opts: Any) -> CfgNode:
    """The config of a plain detector of one of KINDS; ``opts`` are further keys and values."""
    fixed = ["INPUT.MIN_SIZE_TEST", "64", "PROXY.NUM_WORKERS", "0"]
    return load_cfg(None, [*_opts(COMMON), *_opts(SPECIAL[kind]), *fixed, *map(str, opts)])


def make_view(kind: str = "fpn", *opts: Any) -> ExplainableDetector:
    """A plain detector that has been made to answer, in eval mode, as the explainer sees it."""
    model = build_model(make_cfg(kind, *opts)).eval()
    teach(model)
    return explainable(model)


def make_bbam(kind: str = "fpn", *opts: Any) -> nn.Module:
    """BBAM around a detector that has been made to answer, in eval mode."""
    model = build_model(make_cfg(kind, *opts, "MODEL.META_ARCHITECTURE", "BBAM")).eval()
    teach(model.detector)
    return model


def make_image(seed: int = 0) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8, smooth noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 3, 16, 16), generator=generator) * 255
    fine = functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")
    return fine[0].permute(1, 2, 0).to(torch.uint8).numpy()


def make_inputs(boxes: torch.Tensor = BOXES, seed: int = 0, first_id: int = 10) -> dict[str, Any]:
    """What a teacher's mapper gives, without resizing; all boxes are of class 0."""
    image = make_image(seed)
    instances = Instances(
        (SIZE, SIZE),
        gt_boxes=Boxes(boxes.clone()),
        original_boxes=boxes.clone(),
        gt_classes=torch.zeros(len(boxes), dtype=torch.int64),
        annotation_ids=torch.arange(first_id, first_id + len(boxes)),
    )
    names = {"file_name": "image.png", "image_id": 1, "height": SIZE, "width": SIZE}
    bgr = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
    return {**names, "image": bgr, "original_image": image, "instances": instances}


@torch.no_grad()
def teach(detector: nn.Module) -> None:
    """Scales the last layers so that logits and regressions vary mildly, and prefers class 0."""
    view = explainable(detector)
    image = view.normalise(torch.from_numpy(make_image()).permute(2, 0, 1).float())[None]
    two_stage = hasattr(detector, "roi_heads")
    last = detector.roi_heads.box_predictor if two_stage else detector.head
    predictors = last if isinstance(last, nn.ModuleList) else [last]
    layers = [(p.cls_score, p.bbox_pred) for p in predictors]
    sizes: dict[nn.Module, float] = {}

    def note(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        sizes[layer] = max(sizes.get(layer, 0.0), float(out.std()))

    hooks = [layer.register_forward_hook(note) for layer in sum(layers, ())]
    for layer in sum(layers, ()):
        layer.bias.zero_()
    view.forward(image, [BOXES if two_stage else torch.arange(4)])
    for hook in hooks:
        hook.remove()
    for logits, deltas in layers:
        logits.weight.div_(sizes[logits] / 0.5)
        deltas.weight.div_(sizes[deltas] / 0.2)
        logits.bias.view(-1, len(logits.bias) if two_stage else 2)[:, 0] = 1.5
