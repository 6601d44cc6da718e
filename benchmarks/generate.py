"""How fast proxy masks are made, and in how much memory."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

import torch
from detectron2.config import CfgNode

from benchmarks.chain import DATASET, build_teacher, draw_shapes, teacher_cfg
from benchmarks.timing import (
    Row,
    forget_peak,
    in_fresh_process,
    interleave,
    memory,
    timing_rows,
)
from wsis.data.mapper import TeacherDatasetMapper
from wsis.data.registration import get_source
from wsis.engine.generation import generate_proxy_masks
from wsis.engine.proxy_job import ProxyJob
from wsis.modeling.teacher import Teacher
from wsis.structures import RLE
from wsis.structures.proxy_file import proxy_annotation, write_proxy_file
from wsis.structures.rle import encode_mask


def benchmark_generate(
    images: int = 100,
    size: int = 192,
    method: str = "GrabCut",
    repeats: int = 5,
    memory_images: tuple[int, ...] = (100, 1000),
) -> list[Row]:
    """Generation, restartable and checked, against a plain loop over the images; and its peak memory.

    Both work in one process. The loop calls the model on each image and writes all masks at the end. Memory is that of
    a fresh process without workers: ``beyond the source`` is its peak without what loading the source took, and
    ``/ first`` the same over that of the first number of images.

    Args:
        images: number of images.
        size: of an image's side in pixels.
        method: a teacher that needs no weights.
        repeats: rounds that count.
        memory_images: numbers of images for the memory.
    """
    with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
        folder = Path(name)
        cfg = teacher_cfg(
            draw_shapes(folder / "data", images, size), folder / "out", method, workers=0
        )
        teacher = build_teacher(cfg)
        outputs = (folder / f"out{number}" for number in itertools.count())
        ways = {
            "loop (plain)": lambda: _loop(cfg, teacher, next(outputs)),
            "generate_proxy_masks": lambda: _generate(cfg, teacher, next(outputs)),
        }
        rows = timing_rows(interleave(ways, repeats), "loop (plain)")
        for row in rows:
            row["images / s"] = images / row["seconds"]
        draw_shapes(folder / "warm-up", 2, size)
        peaks = []
        for number in memory_images:
            data = draw_shapes(folder / f"data{number}", number, size)
            peaks.append(in_fresh_process(_memory_row, data, folder, number, method))
    for row in peaks:
        row["/ first"] = row["beyond the source MiB"] / peaks[0]["beyond the source MiB"]
    return rows + peaks


def _generate(cfg: CfgNode, teacher: Teacher, output: Path) -> Path:
    again = cfg.clone()
    again.OUTPUT_DIR = str(output)
    return generate_proxy_masks(again, teacher).files[0]


def _loop(cfg: CfgNode, teacher: Teacher, output: Path) -> None:
    """What a script would do: nothing is checked, and nothing on disk before the end."""
    source = get_source(DATASET)
    job = ProxyJob(DATASET, source, output, class_agnostic=False, keep_true_masks=False)
    mapper = TeacherDatasetMapper(cfg, needs_image=teacher.needs_image, keep_original=True)
    made: dict[int, tuple[RLE, float, str]] = {}
    for image in source.images:
        with torch.no_grad():
            (result,) = teacher([mapper(job.record(image))])
        proxy = result["proxy"]
        codes = [encode_mask(mask.numpy()) for mask in proxy.pred_masks]
        made.update(
            zip(
                proxy.annotation_ids.tolist(),
                zip(codes, proxy.scores.tolist(), proxy.status, strict=True),
                strict=True,
            )
        )
    annotations = [
        proxy_annotation(a, made[a["id"]][0], None, made[a["id"]][1], made[a["id"]][2])
        for a in source.annotations
    ]
    write_proxy_file(job.path, {}, source.images, source.categories, annotations)


def _memory_row(data: Path, folder: Path, number: int, method: str) -> Row:
    """To be called in a fresh process: a small generation first, so that every library is loaded."""
    warm_up = teacher_cfg(folder / "warm-up", folder / f"warm-up{number}", method, workers=0)
    generate_proxy_masks(warm_up, build_teacher(warm_up))
    before = memory()
    cfg = teacher_cfg(data, folder / f"peak{number}", method, workers=0)
    loaded = memory()
    forget_peak()
    path = generate_proxy_masks(cfg, build_teacher(cfg)).files[0]
    peak = memory("VmHWM")
    return {
        "way": f"memory at {number} images",
        "masks": len(json.loads(path.read_bytes())["annotations"]),
        "source MiB": max(loaded - before, 0) / 2**20,
        "peak MiB": peak / 2**20,
        "generation MiB": (peak - loaded) / 2**20,
        "beyond the source MiB": (peak - max(loaded - before, 0)) / 2**20,
    }
