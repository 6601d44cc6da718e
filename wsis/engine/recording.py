"""Runs a frozen detector once through a training and keeps what its mask head would learn from."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from wsis.data.build import Batches, build_train_loader, training_dicts
from wsis.data.fork import before_workers
from wsis.data.roi_record import CHUNK, RecordedImage, RoiRecord, describe, objects_of
from wsis.engine.progress import Progress
from wsis.engine.trainer import WsisTrainer
from wsis.errors import ConfigError
from wsis.modeling.recorded_rcnn import check_recordable, record_header

NO_MASKS = {
    "WSIS.SUPERVISION": "box",
    "MODEL.ROI_MASK_HEAD.NAME": "BoxMaskHead",
    "MODEL.ROI_MASK_HEAD.BOX.AFFINITY_WEIGHT": "0.0",
    "MODEL.ROI_MASK_HEAD.SIMILARITY.WEIGHT": "0.0",
}
"""Keys of a head that needs no masks: a record is the same for all heads."""


class _Tap(nn.Module):
    """In the place of the mask head; has what it was called with last."""

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor]:
        self.features, self.instances = x.cpu(), [each.to("cpu") for each in instances]
        return {}


class _Recorder(WsisTrainer):
    """The trainer of a training that is to be recorded, so that everything is drawn as there."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        before_workers()
        return build_train_loader(cfg, keep_transforms=True)


def record_rois(cfg: CfgNode, resume: bool = False) -> RoiRecord:
    """Records the RoI features of ``SOLVER.MAX_ITER`` iterations in ``OUTPUT_DIR``, as the training of this config
    would see them. One process; goes on, where it was cut, with what it would have drawn.

    Args:
        cfg: a student's, with :data:`NO_MASKS`.
        resume: goes on with a record.

    Raises:
        ConfigError: more than the mask head learns, or the disk has no room.
        WsisError: there is a record, and ``resume`` is not set; or it is of another training.
    """
    check_recordable(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    header = {"iterations": cfg.SOLVER.MAX_ITER, **record_header(cfg)}
    header["objects"] = objects_of(training_dicts(cfg))
    header["seed"] = cfg.SEED
    record = RoiRecord.begin(folder, header, resume)
    done = record.recorded
    trainer = _Recorder(cfg)
    trainer.resume_or_load(resume=False)
    model, batches = trainer.model.train(), iter(trainer._trainer.data_loader)
    tap = model.roi_heads.mask_head = _Tap()
    for _ in range(done):
        next(batches)
    if done:
        _set_generators(record.details((done - 1) // CHUNK)["generators"], cfg.MODEL.DEVICE)
    with EventStorage(), torch.no_grad(), Progress(str(folder), header["iterations"], "steps") as p:
        p.advance(done)
        for start in range(done, header["iterations"], CHUNK):
            number = min(CHUNK, header["iterations"] - start)
            steps = []
            for _ in range(number):
                batch = next(batches)
                model(batch)
                steps.append((_images(batch, tap.instances), tap.features.numpy()))
                p.advance()
            images, features = zip(*steps, strict=True)
            if start == done:
                _check_room(folder, features, header["iterations"] - start)
            state = _generators(cfg.MODEL.DEVICE)
            record.append(start // CHUNK, images, np.concatenate(features), generators=state)
    return record


def _images(batch: list[dict[str, Any]], instances: list[Instances]) -> list[RecordedImage]:
    """The foreground regions of a batch."""
    return [
        RecordedImage(
            sample["position"],
            regions.image_size,
            describe(sample["transforms"]),
            regions.gt_ids.tolist() if len(regions) else [],
            regions.proposal_boxes.tensor.tolist(),
        )
        for sample, regions in zip(batch, instances, strict=True)
    ]


def _check_room(folder: Path, features: tuple[np.ndarray, ...], iterations: int) -> None:
    """By the size of the first chunk, before anything else is worked out."""
    needed = math.ceil(sum(each.nbytes for each in features) / len(features) * iterations)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"OUTPUT_DIR: {folder} has {free / 1e9:.1f} GB of room, and the RoI features of {iterations} iterations "
            f"take {needed / 1e9:.1f} GB; free some, or train without a record"
        )


def _generators(device: str) -> list[str]:
    """States of the random generators that proposals are drawn by, in hex."""
    states = [torch.get_rng_state()]
    if device.startswith("cuda"):
        states.append(torch.cuda.get_rng_state(device))
    return [bytes(state.numpy()).hex() for state in states]


def _set_generators(states: list[str], device: str) -> None:
    first, *others = (torch.tensor(list(bytes.fromhex(s)), dtype=torch.uint8) for s in states)
    torch.set_rng_state(first)
    for state in others:
        torch.cuda.set_rng_state(state, device)
