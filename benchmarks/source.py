"""A COCO JSON file of many boxes: read by Detectron2, and as columns."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data.datasets import load_coco_json

from benchmarks.timing import (
    Row,
    forget_peak,
    in_fresh_process,
    interleave,
    memory,
    timing_rows,
)
from wsis.data.handover import read_shared, write_shared
from wsis.data.source import load_source

PLAIN = "Detectron2's load_coco_json (plain)"
COLUMNS = "columns, checked"
SHARED = "in each further process"
_CLASSES = 80


def benchmark_source(images: int = 100_000, per_image: int = 7, repeats: int = 3) -> list[Row]:
    """Reading a file of boxes, once for a run, and taking it over in a process of the run, against Detectron2's reader,
    which checks nothing and reads in each.

    ``differ`` counts annotations that are not those of the file. Memory is what a fresh process has more of for itself
    afterwards, images included, and at its highest in between.

    Args:
        images: number of images.
        per_image: boxes of each.
        repeats: rounds that count.
    """
    with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
        path = Path(name) / "boxes.json"
        write_boxes(path, images, per_image)
        write_shared(load_source(path), Path(name))
        ways = {way: partial(read, str(path)) for way, read in _WAYS.items()}
        rows = timing_rows(interleave(ways, repeats), PLAIN)
        used = {way: in_fresh_process(_memory, way, str(path)) for way in ways}
        differ = {
            way: count_differences(path, ways[way]().annotations) for way in (COLUMNS, SHARED)
        }
    number = images * per_image
    for row in rows:
        row["bytes a box"], row["at the highest"] = (each / number for each in used[row["way"]])
        row["differ"] = differ.get(str(row["way"]), 0)
    return rows


def write_boxes(path: Path, images: int, per_image: int) -> None:
    """A file of boxes with two digits behind the point, as COCO's own."""
    rng = np.random.default_rng(0)
    entries = [
        {"id": i, "file_name": f"train/{i:012d}.jpg", "height": 480, "width": 640}
        for i in range(1, images + 1)
    ]
    near = rng.uniform(0, (500, 380), (images * per_image, 2)).round(2)
    sides = rng.uniform(5, 100, (images * per_image, 2)).round(2)
    annotations: list[dict[str, Any]] = [
        {
            "id": i + 1,
            "image_id": i // per_image + 1,
            "category_id": i % _CLASSES + 1,
            "bbox": [*first, *second],
            "area": round(second[0] * second[1], 4),
            "iscrowd": 0,
        }
        for i, (first, second) in enumerate(zip(near.tolist(), sides.tolist(), strict=True))
    ]
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, _CLASSES + 1)]
    document = {"images": entries, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document), encoding="utf-8")


def count_differences(path: Path, found: Sequence[dict[str, Any]]) -> int:
    """Annotations that are not those of a file."""
    expected = json.loads(path.read_bytes())["annotations"]
    same = sum(a == b for a, b in zip(expected, found, strict=False))
    return max(len(expected), len(found)) - same


_WAYS: dict[str, Callable[[str], Any]] = {
    PLAIN: lambda path: load_coco_json(path, ""),
    COLUMNS: load_source,
    SHARED: lambda path: read_shared(Path(path).parent),
}


def _memory(way: str, path: str) -> tuple[int, int]:
    """Bytes above those before: afterwards, and at the highest."""
    gc.collect()
    before = memory("RssAnon")
    forget_peak()
    highest = memory()
    kept = _WAYS[way](path)
    gc.collect()
    after, highest = memory("RssAnon") - before, memory("VmHWM") - highest
    del kept
    return after, highest
