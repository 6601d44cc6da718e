"""Weights of the original release, which is built on maskrcnn-benchmark, under Detectron2's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from wsis.modeling.weight_names import register_weight_names

FROZEN_BN_EPS = 1e-5
"""Detectron2 adds it to a frozen norm's variance, maskrcnn-benchmark adds nothing."""

_HEADS = {
    "rpn.head.conv": "proposal_generator.rpn_head.conv",
    "rpn.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
    "rpn.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
    "roi_heads.box.feature_extractor.fc6": "roi_heads.box_head.fc1",
    "roi_heads.box.feature_extractor.fc7": "roi_heads.box_head.fc2",
    "roi_heads.box.predictor.cls_score": "roi_heads.box_predictor.cls_score",
    "roi_heads.box.predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
    "roi_heads.mask.predictor.conv5_mask": "roi_heads.mask_head.deconv",
    "roi_heads.mask.predictor.mask_fcn_logits": "roi_heads.mask_head.predictor",
}
_STEM = re.compile(r"backbone\.body\.stem\.(conv|bn)1\.")
_BLOCK = re.compile(r"backbone\.body\.layer(\d)\.(\d+)\.(conv\d|bn\d|downsample\.[01])\.")
_FPN = re.compile(r"backbone\.fpn\.fpn_(inner|layer)(\d)\.")
_MASK_CONV = re.compile(r"roi_heads\.mask\.feature_extractor\.(mask_fcn\d)\.")


def is_original_release(weights: Mapping[str, object]) -> bool:
    """Whether these are weights of maskrcnn-benchmark."""
    return any(name.removeprefix("module.").startswith("backbone.body.") for name in weights)


@register_weight_names(is_original_release)
def from_original_release(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a Faster or Mask R-CNN with FPN under Detectron2's names and in its order of classes.

    Background moves from the first to the last class row; its box and mask rows, which nothing uses, are dropped.

    Args:
        weights: name to tensor, with or without ``module.`` before each name.

    Returns:
        Likewise; without tensors that Detectron2 computes itself (anchors).
    """
    out = {}
    for name, value in weights.items():
        new = _new_name(name.removeprefix("module."))
        if new is not None:
            out[new] = _new_value(new, torch.as_tensor(value))
    return out


def _new_name(name: str) -> str | None:
    layer, _, part = name.rpartition(".")
    if layer in _HEADS:
        return f"{_HEADS[layer]}.{part}"
    if found := _STEM.match(name):
        return f"backbone.bottom_up.stem.conv1{'.norm' if found[1] == 'bn' else ''}.{part}"
    if found := _BLOCK.match(name):
        stage, block, inner = int(found[1]) + 1, found[2], found[3]
        inner = re.sub(r"bn(\d)", r"conv\1.norm", inner)
        inner = inner.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        return f"backbone.bottom_up.res{stage}.{block}.{inner}.{part}"
    if found := _FPN.match(name):
        kind = "lateral" if found[1] == "inner" else "output"
        return f"backbone.fpn_{kind}{int(found[2]) + 1}.{part}"
    if found := _MASK_CONV.match(name):
        return f"roi_heads.mask_head.{found[1]}.{part}"
    return None


def _new_value(name: str, value: Tensor) -> Tensor:
    if name.endswith("norm.running_var"):
        return value - FROZEN_BN_EPS
    if name.startswith("roi_heads.box_predictor.cls_score."):
        return value.roll(-1, dims=0)
    if name.startswith("roi_heads.box_predictor.bbox_pred."):
        return value[4:]
    if name.startswith("roi_heads.mask_head.predictor."):
        return value[1:]
    return value
