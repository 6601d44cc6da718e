"""What frozen norms in one pass, and memory that is kept, are worth to a step on the CPU."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.utils.env import seed_all_rng
from torch import nn

from benchmarks.chain import draw_shapes
from benchmarks.students import rounds, student_cfg
from benchmarks.timing import Row, interleave, timing_rows
from wsis.engine import WsisTrainer
from wsis.engine.launch import keep_memory
from wsis.layers.norms import FrozenBatchNormAct2d

PLAIN = "norms in two passes, memory returned (plain)"


def benchmark_cpu_step(
    config: str = "photos/faster_rcnn_lite0_FPN_photos.yaml",
    images: int = 32,
    size: int = 320,
    steps: int = 2,
    repeats: int = 5,
) -> list[Row]:
    """Steps of a detector whose norms are frozen, from random weights, with glibc's malloc.

    Args:
        config: the detector's.
        images: that are trained on.
        size: of an image's side in pixels.
        steps: of a round.
        repeats: rounds that count.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = draw_shapes(root / "data", images, size)
        weights = root / "detector.pth"
        ways: dict[str, Callable[[], None]] = {}
        for way, two_passes, kept in (
            (PLAIN, True, False),
            ("norms in one pass", False, False),
            ("and memory kept", False, True),
        ):
            cfg = student_cfg(config, data, root / f"{len(ways)}", steps * (repeats + 1))
            seed_all_rng(1)
            if not ways:
                torch.save({"model": WsisTrainer.build_model(cfg).state_dict()}, weights)
            trainer = WsisTrainer(cfg)
            trainer.resume_or_load(resume=False)
            if two_passes:
                _two_passes(trainer.model)
            ways[way] = _with_memory(rounds(trainer, steps), kept)
        return timing_rows(interleave(ways, repeats), PLAIN)


def _two_passes(model: nn.Module) -> None:
    """Norms as timm has them: a product and a sum."""

    class TwoPasses(FrozenBatchNormAct2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = (self.weight * (self.running_var + self.eps).rsqrt()).reshape(1, -1, 1, 1)
            shift = self.bias.reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale
            return self.act(self.drop(x * scale + shift))

    for module in model.modules():
        if isinstance(module, FrozenBatchNormAct2d):
            module.__class__ = TwoPasses


def _with_memory(work: Callable[[], None], kept: bool) -> Callable[[], None]:
    def run() -> None:
        if kept:
            keep_memory()
        else:  # M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD: what glibc's own adaption comes to
            for key, value in ((-4, 65536), (-3, 32 << 20), (-1, 64 << 20)):
                ctypes.CDLL(None).mallopt(key, value)
        work()

    return run
