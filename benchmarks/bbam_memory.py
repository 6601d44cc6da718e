"""What explaining boxes together takes in memory, at the size of a real detector and image."""

from __future__ import annotations

import os
from typing import Any

import torch

from benchmarks.timing import Row, forget_peak, in_fresh_process, measure, memory
from wsis.config import load_cfg
from wsis.engine.trainer import WsisTrainer
from wsis.methods.bbam.explainer import explain
from wsis.methods.bbam.meta_arch import frozen
from wsis.methods.bbam.targets import Target
from wsis.parallel import limited_threads

MIB = 2**20


def benchmark_bbam_memory(
    config: str = "configs/BBAM/bbam_R_101_FPN_voc.yaml",
    height: int = 800,
    width: int = 1066,
    boxes: tuple[int, ...] = (1, 2),
    positives: int = 100,
    steps: int = 2,
) -> list[Row]:
    """Memory and seconds of BBAM's steps for an image of a given size, in a fresh process for each number of boxes.

    Weights and pixels are random: neither matters here. Memory is the peak of the whole process on a CPU, of PyTorch's
    tensors on a GPU, the detector in it.

    Args:
        config: of BBAM.
        height, width: of the network's input in pixels.
        boxes: that are explained together.
        positives: of each box.
        steps: of the optimisation.
    """
    threads = torch.get_num_threads()
    return [
        in_fresh_process(
            _memory_row, os.path.abspath(config), (height, width), number, positives, steps, threads
        )
        for number in boxes
    ]


def _memory_row(
    config: str, size: tuple[int, int], boxes: int, positives: int, steps: int, threads: int
) -> Row:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg = load_cfg(config, ["MODEL.WEIGHTS", "", "MODEL.DEVICE", device])
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES or 20
    torch.manual_seed(0)
    model: Any = WsisTrainer.build_model(cfg).eval()
    image = torch.randn(3, *size, device=device)
    target = _target(size, positives, device)

    def work() -> None:
        explain(model.view.forward, image, [target] * boxes, params)

    params = type(model.explainer)(model.explainer.objective, steps=steps)
    with limited_threads(threads), frozen(model):
        if device == "cuda":
            work()
            torch.cuda.reset_peak_memory_stats()
            wall, cpu = measure(work)
            peak = torch.cuda.max_memory_allocated()
        else:
            forget_peak()
            wall, cpu = measure(work)
            peak = memory("VmHWM")
    return {
        "boxes together": boxes,
        "peak MiB": peak / MIB,
        "seconds / step and box": wall / steps / boxes,
        "CPU seconds / step and box": cpu / steps / boxes,
    }


def _target(size: tuple[int, int], positives: int, device: str) -> Target:
    """A box over the middle half of the image, and proposals that are it."""
    height, width = size
    box = torch.tensor([width / 4, height / 4, 3 * width / 4, 3 * height / 4], device=device)
    return Target(
        proposals=box.repeat(positives, 1),
        class_index=0,
        scores=torch.ones(positives, device=device),
        deltas=torch.zeros(positives, 4, device=device),
        mask=torch.ones(height // 16, width // 16, device=device),
    )
