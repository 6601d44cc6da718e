"""What it takes to fuse files of many masks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from benchmarks.chain import DATASET, build_teacher, teacher_cfg
from benchmarks.timing import (
    Row,
    forget_peak,
    in_fresh_process,
    interleave,
    memory,
    timing_rows,
)
from wsis.data.registration import get_source
from wsis.engine.generation import generate_proxy_masks
from wsis.layers.box_shapes import inscribed_ellipse
from wsis.methods.fusion.refiner import FusionRefiner, seed_maps
from wsis.structures import Seed
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import proxy_annotation, write_json_atomic, write_proxy_file
from wsis.structures.rle import encode_crop

SIZE, PER_IMAGE = 200, 50
PLAIN = "all files in memory (plain)"
_MIB = 2**20


def benchmark_fusion(
    files: int = 5,
    masks: tuple[int, ...] = (1000, 10000),
    rule: str = "vote",
    timed_masks: int = 500,
    repeats: int = 3,
) -> list[Row]:
    """Fusing files by the place of each annotation, in a whole generation, against loading them all first and fusing
    box by box, which writes nothing. Both work in one process. Memory is that of a fresh process beyond the loaded
    source.

    ``/ first`` is it over that of the first number of masks.

    Args:
        files: that are fused.
        masks: numbers of masks of a file, for the memory.
        rule: ``MODEL.FUSION.RULE``.
        timed_masks: of a file, for the time.
        repeats: rounds that count.
    """
    with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
        folder = Path(name)
        data = write_data(folder / "timed", timed_masks, files)
        outputs = iter(range(10**6))
        ways = {
            PLAIN: lambda: _fuse_loaded(data, files, rule),
            "generation": lambda: _generate(data, folder / f"out{next(outputs)}", files, rule),
        }
        rows = timing_rows(interleave(ways, repeats), PLAIN)
        for row in rows:
            row["ms / mask"] = 1000 * row["seconds"] / timed_masks
        found = []
        for number in masks:
            data = write_data(folder / str(number), number, files)
            for way in ways:
                found.append(in_fresh_process(_memory_row, way, data, folder, files, rule, number))
        for row in found:
            first = next(other for other in found if other["of"] == row["of"])
            row["/ first"] = row["beyond the source MiB"] / (first["beyond the source MiB"] or 1)
    return rows + [{key: value for key, value in row.items() if key != "of"} for row in found]


def write_data(folder: Path, masks: int, files: int) -> Path:
    """A dataset as ``chain.custom_dataset`` expects it, and proxy-mask files 0.json, 1.json, ...; the folder."""
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    side: dict[str, Any] = {"height": SIZE, "width": SIZE}
    images = [
        {"id": i, "file_name": f"{i}.png", **side} for i in range(1, 2 + (masks - 1) // PER_IMAGE)
    ]
    for image in images:
        Image.fromarray(np.full((SIZE, SIZE), image["id"] % 256, np.uint8)).save(
            folder / "images" / image["file_name"]
        )
    boxes = np.concatenate([rng.uniform(0, 140, (masks, 2)), rng.uniform(20, 60, (masks, 2))], 1)
    annotations: list[dict[str, Any]] = [
        {"id": i + 1, "image_id": i // PER_IMAGE + 1, "category_id": 1, "bbox": box, "iscrowd": 0}
        for i, box in enumerate(boxes.round(1).tolist())
    ]
    categories = [{"id": 1, "name": "thing"}]
    source = {"images": images, "annotations": annotations, "categories": categories}
    write_json_atomic(folder / "annotations" / "shapes_train_boxes.json", source)

    def made(number: int) -> Iterator[dict[str, Any]]:
        own = np.random.default_rng(number)
        for annotation in annotations:
            box = xywh_to_xyxy(annotation["bbox"]) + own.normal(0, 3, 4)
            box = np.concatenate([box[:2].clip(0), np.maximum(box[2:], box[:2] + 4)]).clip(0, SIZE)
            code = encode_crop(*inscribed_ellipse(box, SIZE, SIZE), SIZE, SIZE)
            yield proxy_annotation(annotation, code, None, own.uniform(0.5, 1), "ok")

    for number in range(files):
        info = {"wsis": {"method": f"teacher {number}"}}
        write_proxy_file(folder / f"{number}.json", info, images, categories, made(number))
    return folder


def _paths(data: Path, files: int) -> list[str]:
    return [str(data / f"{number}.json") for number in range(files)]


def _cfg(data: Path, output: Path, files: int, rule: str) -> CfgNode:
    cfg = teacher_cfg(data, output, "Fusion", workers=0)
    cfg.MODEL.FUSION.FILES, cfg.MODEL.FUSION.RULE = _paths(data, files), rule
    return cfg


def _generate(data: Path, output: Path, files: int, rule: str) -> None:
    cfg = _cfg(data, output, files, rule)
    generate_proxy_masks(cfg, build_teacher(cfg))


def _fuse_loaded(data: Path, files: int, rule: str) -> None:
    """What a script would do."""
    documents = [json.loads(Path(path).read_bytes()) for path in _paths(data, files)]
    refine = FusionRefiner(rule, 0.6)
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    made = []
    for row in zip(*(document["annotations"] for document in documents), strict=True):
        box = xywh_to_xyxy([row[0]["bbox"]]).astype(np.float32)
        maps = seed_maps([[annotation] for annotation in row])
        seed = Seed(1, "", SIZE, SIZE, box, np.zeros(1, int), (row[0]["id"],), maps)
        made.append(refine(seed, blank))


def _memory_row(way: str, data: Path, folder: Path, files: int, rule: str, number: int) -> Row:
    """To be called in a fresh process: a few masks first, so that every library is loaded."""
    work = _fuse_loaded if way == PLAIN else None
    small = write_data(folder / f"warm{number}{bool(work)}", 2, files)
    _generate(small, folder / f"small{number}{bool(work)}", files, rule)
    before = memory()
    cfg = _cfg(data, folder / f"peak{number}", files, rule)
    get_source(DATASET)
    loaded = memory()
    forget_peak()
    if work:
        work(data, files, rule)
    else:
        generate_proxy_masks(cfg, build_teacher(cfg))
    return {
        "way": f"{way}, {number} masks",
        "of": way,
        "source MiB": max(loaded - before, 0) / _MIB,
        "beyond the source MiB": (memory("VmHWM") - loaded) / _MIB,
    }
