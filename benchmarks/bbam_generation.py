"""How well BBAM's CRF hides behind its explainer when masks are generated."""

from __future__ import annotations

import functools
import json as json_module
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from benchmarks.timing import Row, measure
from wsis.config import load_cfg
from wsis.data.build import dataset_source
from wsis.data.dicts import to_dicts
from wsis.data.images import read_image
from wsis.data.mapper import TeacherDatasetMapper
from wsis.data.prepare import first_images
from wsis.data.registration import prepare_datasets
from wsis.engine.checkpoint import WsisCheckpointer
from wsis.engine.generation import generate_proxy_masks
from wsis.engine.launch import launch
from wsis.engine.trainer import WsisTrainer
from wsis.modeling.teacher import Teacher
from wsis.structures.proxy_file import write_json_atomic

DATASET = "benchmark_bbam_generation"


def benchmark_bbam_generation(
    config: str = "configs/BBAM/bbam_R_18_FPN_shapes_quickstart.yaml",
    weights: str = "output/demo/detector/model_final.pth",
    json: str = "output/demo/data/annotations/shapes_train_boxes.json",
    images: str = "output/demo/data/images",
    count: int = 40,
    processes: int = 0,
    workers: int = 1,
) -> list[Row]:
    """A generation of BBAM, with its CRF in worker processes, against perfect use of the cores.

    First the explainer alone, then the CRF alone, then the generation that has both, each in all processes. The
    sum of the first two rows' CPU seconds over the cores is the least wall time that the third can have on a CPU; with
    a GPU it is the explainer's own wall time.

    Args:
        config: of BBAM.
        weights: of its detector.
        json, images: boxes to explain.
        count: of images.
        processes: that explain; 0 = one per core, or one with a GPU.
        workers: ``PROXY.NUM_WORKERS`` of each.
    """
    on_gpu = torch.cuda.is_available()
    processes = processes or (1 if on_gpu else len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
        folder = Path(name)
        taken = folder / "boxes.json"
        write_json_atomic(taken, first_images(json, count))
        values = {
            "MODEL.ROI_HEADS.NUM_CLASSES": 0,  # those of the dataset
            "MODEL.WEIGHTS": os.path.abspath(weights),
            "MODEL.DEVICE": "cuda" if on_gpu else "cpu",
            "DATASETS.CUSTOM": [[DATASET, str(taken), os.path.abspath(images)]],
            "DATASETS.TRAIN": (DATASET,),
            "PROXY.NUM_WORKERS": workers,
            "OUTPUT_DIR": str(folder / "out"),
        }
        cfg = load_cfg(config, [str(item) for pair in values.items() for item in pair])
        report = folder / "report.json"
        launch(_measure_all, processes, device=cfg.MODEL.DEVICE, args=(cfg, report))
        seconds = json_module.loads(report.read_text(encoding="utf-8"))
    rows = [{"way": way, "seconds": wall, "CPU seconds": cpu} for way, (wall, cpu) in seconds]
    explainer, crf, both = rows
    if on_gpu:
        least = explainer["seconds"]
    else:
        least = (explainer["CPU seconds"] + crf["CPU seconds"]) / processes
    return [
        *rows,
        {"generation": "seconds over the least possible", "value": both["seconds"] / least},
    ]


def _measure_all(cfg: CfgNode, report: Path) -> None:
    """Wall seconds of the slowest process and CPU seconds of all, for each of the three."""
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    teacher: Any = WsisTrainer.build_model(cfg).eval()
    WsisCheckpointer(teacher).load(cfg.MODEL.WEIGHTS)
    records = to_dicts(dataset_source(cfg, DATASET), "box")
    mine = [record for record in records if record["annotations"]]
    mine = mine[comm.get_rank() :: comm.get_world_size()]
    mapper = TeacherDatasetMapper(cfg, keep_original=teacher.needs_original_image)
    _propose(teacher, mapper, mine[:1])
    seeds: list[Any] = []
    refine = teacher.refiner()

    def refine_all() -> None:
        for seed in seeds:
            refine(seed, read_image(seed.file_name))

    ways: dict[str, Callable[[], object]] = {
        "explainer alone": lambda: seeds.extend(_propose(teacher, mapper, mine)),
        "CRF alone": refine_all,
        "generation, CRF beside the explainer": functools.partial(
            generate_proxy_masks, cfg, teacher
        ),
    }
    found = []
    for way, work in ways.items():
        comm.synchronize()
        every = comm.all_gather(measure(work))
        found.append((way, (max(wall for wall, _ in every), sum(cpu for _, cpu in every))))
    if comm.is_main_process():
        write_json_atomic(report, found)


def _propose(
    teacher: Teacher, mapper: TeacherDatasetMapper, records: list[dict[str, Any]]
) -> list[Any]:
    with torch.no_grad():
        return [teacher.propose([mapper(record)])[0] for record in records]
