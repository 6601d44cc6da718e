"""What more worker processes and more ranks are worth."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from benchmarks.chain import (
    DATASET,
    build_teacher,
    custom_dataset,
    draw_shapes,
    teacher_cfg,
)
from benchmarks.timing import Row, Timing, interleave, measure, timing_rows
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine.generation import generate_proxy_masks
from wsis.engine.launch import launch
from wsis.engine.trainer import WsisTrainer

Seconds = tuple[float, float]


def benchmark_workers(
    images: int = 100, size: int = 192, method: str = "GrabCut", repeats: int = 3
) -> list[Row]:
    """Generation with two worker processes that refine, and with none, against one.

    Starting them counts; the process that they are copies of has been started before. CPU seconds are those of the
    main process, which waits.

    Args:
        images: number of images.
        size: of an image's side in pixels.
        method: a teacher that needs no weights.
        repeats: rounds that count.
    """
    with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
        folder = Path(name)
        data = draw_shapes(folder / "data", images, size)
        teacher = build_teacher(teacher_cfg(data, folder, method, workers=0))
        outputs = (folder / f"out{number}" for number in itertools.count())

        def generate(workers: int) -> None:
            generate_proxy_masks(teacher_cfg(data, next(outputs), method, workers), teacher)

        names = {1: "1 worker (plain)", 2: "2 workers", 0: "no worker"}
        ways = {name: functools.partial(generate, number) for number, name in names.items()}
        rows = timing_rows(interleave(ways, repeats), names[1])
    for row in rows:
        row["images / s"] = images / row["seconds"]
    return rows


def benchmark_scale(
    images: int = 100,
    size: int = 128,
    method: str = "GrabCut",
    repeats: int = 3,
    steps: int = 10,
    config_file: str = "configs/quickstart/faster_rcnn_R_18_FPN_shapes.yaml",
) -> list[Row]:
    """Two processes on the CPU against one: a generation without workers, and training steps of one batch size.

    The time is taken inside, after a first generation or step, and so without the start of the processes. CPU seconds
    are those of the first process.

    Args:
        images: number of images.
        size: of an image's side in pixels.
        method: a teacher that needs no weights.
        repeats: rounds that count.
        steps: training steps of a round.
        config_file: what to train.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="wsis-benchmark-") as name:
        folder = Path(name)
        data = draw_shapes(folder / "data", images, size)
        outputs = (folder / f"out{number}" for number in itertools.count())

        def generation(processes: int) -> Seconds:
            cfg = teacher_cfg(data, next(outputs), method, workers=0)
            return _launch(_time_generation, processes, cfg, images)

        def training(processes: int) -> Seconds:
            cfg = _training_cfg(config_file, data, next(outputs))
            return _launch(_time_training, processes, cfg, steps)

        for what, work in {"generation": generation, "training step": training}.items():
            names = {1: f"{what}, 1 process (plain)", 2: f"{what}, 2 processes"}
            taken: dict[int, list[Seconds]] = {1: [], 2: []}
            for _ in range(repeats):
                for processes, each in taken.items():
                    each.append(work(processes))
            timings = {
                names[number]: Timing(*(tuple(column) for column in zip(*each, strict=True)))
                for number, each in taken.items()
            }
            rows += timing_rows(timings, names[1])
    return rows


def _launch(
    main: Callable[[CfgNode, int, Path], None], processes: int, cfg: CfgNode, number: int
) -> Seconds:
    """Runs ``main(cfg, number, report)`` in processes; returns what the first one has written to the report."""
    report = Path(cfg.OUTPUT_DIR).with_suffix(".json")
    launch(main, processes, args=(cfg, number, report))
    wall, cpu = json.loads(report.read_text(encoding="utf-8"))
    return wall, cpu


def _time_generation(cfg: CfgNode, images: int, report: Path) -> None:
    """Seconds of a whole generation, the second one."""
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    teacher = build_teacher(cfg)
    for name in ("first", "second"):
        again = cfg.clone()
        again.OUTPUT_DIR = f"{cfg.OUTPUT_DIR}/{name}"
        comm.synchronize()
        seconds = measure(functools.partial(generate_proxy_masks, again, teacher))
    _report(report, seconds)


def _time_training(cfg: CfgNode, steps: int, report: Path) -> None:
    """Seconds of a step, the mean of those after the first two."""
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    logging.disable(logging.INFO)
    try:
        trainer = WsisTrainer(cfg)
        with EventStorage(0):
            _run_steps(trainer, 2)
            comm.synchronize()
            wall, cpu = measure(functools.partial(_run_steps, trainer, steps))
    finally:
        logging.disable(logging.NOTSET)
    _report(report, (wall / steps, cpu / steps))


def _run_steps(trainer: WsisTrainer, number: int) -> None:
    for trainer.iter in range(number):
        trainer.run_step()


def _report(path: Path, seconds: Seconds) -> None:
    if comm.is_main_process():
        path.write_text(json.dumps(seconds), encoding="utf-8")


def _training_cfg(config_file: str, data: Path, output: Path) -> CfgNode:
    values = {
        "MODEL.DEVICE": "cpu",
        "DATASETS.CUSTOM": custom_dataset(data),
        "DATASETS.TRAIN": (DATASET,),
        "DATASETS.TEST": (),
        "DATALOADER.NUM_WORKERS": 0,
        "OUTPUT_DIR": str(output),
    }
    cfg = load_cfg(config_file, [str(item) for pair in values.items() for item in pair])
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg
