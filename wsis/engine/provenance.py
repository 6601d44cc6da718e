"""What a proxy-mask file was made with: recorded in it, and compared before a run is continued."""

from __future__ import annotations

import json
from collections.abc import Collection
from importlib import metadata
from typing import Any

import cv2
import detectron2
import numpy as np
import PIL
import torch
import torchvision
from detectron2.config import CfgNode

import wsis
from wsis.config import flatten
from wsis.data.source import CocoSource
from wsis.modeling.teacher import Maker

COMMON_KEYS = (
    "DATASETS.BAD_BOX",
    "DATASETS.CLASS_AGNOSTIC",
    "INPUT.FORMAT",
    "INPUT.HIGH_BIT_DEPTH",
    "PROXY.KEEP_TRUE_MASKS",
    "SEED",
    "WSIS.NUM_THREADS",
    "WSIS.SUPERVISION",
)
"""Config keys that bear on the masks of every teacher; each teacher adds its own."""

_NOT_KEYS = frozenset({"MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.META_ARCHITECTURE"})
"""Recorded in another form: as the weights' SHA-256, the kind of device, the method."""


def keys_under(cfg: CfgNode, prefixes: Collection[str]) -> dict[str, Any]:
    """The config keys that have one of these names or lie below it, as one level, sorted by name, ready for JSON."""
    flat = {
        key: value
        for key, value in flatten(cfg).items()
        if any(key == p or key.startswith(f"{p}.") for p in prefixes)
    }
    return json.loads(json.dumps(flat, sort_keys=True))


def result_config(cfg: CfgNode, teacher: Maker) -> dict[str, Any]:
    """The config keys that bear on the masks, see :func:`keys_under`."""
    keys = keys_under(cfg, (*COMMON_KEYS, *teacher.result_keys))
    return {k: v for k, v in keys.items() if k not in _NOT_KEYS.union(teacher.location_keys)}


def versions(teacher: Maker) -> dict[str, str]:
    """Versions of the software that bears on the masks, by name."""
    found = {
        "wsis": wsis.__version__,
        "detectron2": detectron2.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }
    distributions = metadata.packages_distributions() if teacher.result_packages else {}
    for package in teacher.result_packages:
        for distribution in distributions.get(package, []):
            found[distribution] = metadata.version(distribution)
    return found


def provenance(
    cfg: CfgNode, teacher: Maker, source: CocoSource, weights: str | None
) -> dict[str, Any]:
    """Everything that the masks follow from, and nothing else: no time, host, process count or path.

    Args:
        cfg: the run's config.
        teacher: the model.
        source: what the masks are made for.
        weights: see :func:`weights_sha256`.

    Returns:
        What a proxy-mask file holds as ``info.wsis``, ready for JSON.
    """
    inputs = {"inputs_sha256": dict(teacher.inputs_sha256)} if teacher.inputs_sha256 else {}
    return {
        "version": wsis.__version__,
        "method": type(teacher).__name__,
        "device": torch.device(cfg.MODEL.DEVICE).type,
        "config": result_config(cfg, teacher),
        "weights_sha256": weights,
        "source_sha256": source.sha256,
        **inputs,
        "versions": versions(teacher),
    }


def differences(old: Any, new: dict[str, Any]) -> list[str]:
    """What differs between two provenances, each as ``name: old -> new``; empty if nothing does."""
    if not isinstance(old, dict):
        return ["it says nothing about what made it"]
    before, after = _texts(old), _texts(new)
    pairs = {n: (before.get(n, "absent"), after.get(n, "absent")) for n in before | after}
    return [f"{name}: {a} -> {b}" for name, (a, b) in sorted(pairs.items()) if a != b]


def _texts(value: dict[str, Any]) -> dict[str, str]:
    """JSON by name, on one level: config keys by their own name, the rest as ``group.name``."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat.update({k if key == "config" else f"{key}.{k}": v for k, v in item.items()})
        else:
            flat[key] = item
    return {name: json.dumps(item, sort_keys=True) for name, item in flat.items()}
