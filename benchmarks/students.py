"""What a record of the frozen detector's RoI features is worth to the students that learn from it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from benchmarks.chain import DATASET, draw_shapes
from benchmarks.timing import Row, interleave, timing_rows
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.engine.recording import NO_MASKS, record_rois

PLAIN = "on images (plain)"


def benchmark_students(
    config: str = "quickstart/mask_rcnn_R_18_FPN_shapes.yaml",
    images: int = 64,
    size: int = 128,
    steps: int = 10,
    repeats: int = 5,
) -> list[Row]:
    """Steps of a student, a mask head on a frozen detector of random weights: on images, where the detector
    runs in each step, against the same steps on its recorded features.

    A record takes about the time of as many steps on images to make. That both learn the same is a test's business.

    Args:
        config: the student's.
        images: that are trained on.
        size: of an image's side in pixels.
        steps: of a round.
        repeats: rounds that count.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = draw_shapes(root / "data", images, size)
        length = steps * (repeats + 1)
        plain = student_cfg(config, data, root / "images", length)
        seed_all_rng(1)
        torch.save({"model": WsisTrainer.build_model(plain).state_dict()}, root / "detector.pth")
        keys = {"MODEL.META_ARCHITECTURE": "RecordedRCNN"}
        keys["MODEL.ROI_MASK_HEAD.RECORD"] = str(root / "rois")
        seed_all_rng(1)
        record_rois(student_cfg(config, data, root / "rois", length, **NO_MASKS))
        trainers = {}
        for way, cfg in (
            (PLAIN, plain),
            ("on a record", student_cfg(config, data, root / "rois_s", length, **keys)),
        ):
            seed_all_rng(1)
            trainers[way] = WsisTrainer(cfg)
            trainers[way].resume_or_load(resume=False)
        ways = {way: rounds(trainer, steps) for way, trainer in trainers.items()}
        return timing_rows(interleave(ways, repeats), PLAIN)


def student_cfg(config: str, data: Path, output: Path, length: int, **keys: str) -> CfgNode:
    """A training of a config on drawn shapes, from the weights beside them, on the CPU."""
    values = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": str(data.parent / "detector.pth"),
        "WSIS.SUPERVISION": "mask",
        "DATASETS.CUSTOM": [
            [DATASET, str(data / "annotations" / "shapes_train.json"), str(data / "images")]
        ],
        "DATASETS.TRAIN": (DATASET,),
        "DATASETS.TEST": (),
        "SOLVER.MAX_ITER": length,
        "OUTPUT_DIR": str(output),
        **keys,
    }
    cfg = load_cfg(config, [str(item) for pair in values.items() for item in pair])
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    output.mkdir()
    return cfg


def rounds(trainer: WsisTrainer, steps: int) -> Callable[[], None]:
    """A round of a trainer's steps."""
    trainer.model.train()

    def run() -> None:
        with EventStorage() as storage:
            for _ in range(steps):
                trainer._trainer.run_step()
                storage.step()

    return run
