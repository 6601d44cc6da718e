"""The YAML files of ``configs/``, as the tests of all rooms look at them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import wsis
from wsis.config import CfgNode, flatten, load_cfg

ROOT = Path(wsis.__file__).parents[1] / "configs"
DATA = {"voc", "coco", "nuclei", "shapes"}


def names(pattern: str) -> list[str]:
    """Files as ``BBAM/bbam_R_18_FPN_shapes.yaml``, sorted."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


def load(name: str, *opts: str) -> CfgNode:
    """The config of a file, and keys and values in turn."""
    return load_cfg(ROOT / name, opts)


def data_of(name: str) -> str:
    """The dataset that a file's name speaks of."""
    return re.search(r"_(voc|coco|nuclei|shapes)[_.]", name)[1]


def folder_of(name: str) -> str:
    """Where detectors and plain students of a file's dataset are."""
    return data_of(name).upper() if data_of(name) in ("voc", "coco") else data_of(name)


def changes(cfg: CfgNode, other: CfgNode) -> dict[str, Any]:
    """The keys that differ from another config, with their values."""
    ours, theirs = flatten(cfg), flatten(other)
    return {key: value for key, value in ours.items() if theirs[key] != value}


def example(name: str) -> tuple[str, list[Any]] | None:
    """The key ``DATASETS.CUSTOM...`` of the command in a file's comment, and its value."""
    lines = (ROOT / name).read_text().splitlines()
    comment = "".join(line.removeprefix("#") for line in lines if line.startswith("#"))
    found = re.search(r'(DATASETS\.CUSTOM\w*) "(.*?)"', comment)
    return found and (found[1], ast.literal_eval(found[2]))
