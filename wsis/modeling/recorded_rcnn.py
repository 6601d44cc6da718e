"""A mask head that learns from recorded RoI features of the frozen detector below it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from torch.utils.data import DataLoader

from wsis.config import flatten
from wsis.config.params import key, node, nodes, read
from wsis.data.build import check_batch_size, training_dicts
from wsis.data.mapper import WsisDatasetMapper
from wsis.data.roi_record import RoiRecord, build_record_loader, objects_of
from wsis.errors import ConfigError
from wsis.modeling.method import Method
from wsis.modeling.pretrained import weights_sha256

logger = logging.getLogger(__name__)

FROZEN = ("backbone", "proposal_generator", "roi_heads.box_head", "roi_heads.box_predictor")
"""All of Mask R-CNN but its mask head."""
HEADS = ("StandardROIHeads", "ContextROIHeads")
"""RoI heads whose features a mask head can learn from without them."""
_NOT_RECORDED = ("MODEL.META_ARCHITECTURE", "MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.ROI_MASK_HEAD.")
_RECORDED = ("MODEL.", "INPUT.")
_POOLER = "MODEL.ROI_MASK_HEAD.POOLER_"


@node("MODEL.ROI_MASK_HEAD")
@dataclass(frozen=True)
class RecordParams:
    """Where recorded RoI features lie.

    Attributes:
        record: Folder that tools/record_rois.py has filled. Meta-architecture "RecordedRCNN" trains the mask head on
            it, instead of on images.
    """

    record: str = key("")


def why_not_recorded(cfg: CfgNode) -> str:
    """What keeps a training from being one on recorded RoI features, in words; "" = nothing."""
    model = cfg.MODEL
    if model.META_ARCHITECTURE not in ("GeneralizedRCNN", "RecordedRCNN"):
        return f"MODEL.META_ARCHITECTURE: found {model.META_ARCHITECTURE}, expected GeneralizedRCNN"
    if not model.MASK_ON or model.KEYPOINT_ON or model.ROI_HEADS.NAME not in HEADS:
        return f"MODEL: expected MASK_ON True, KEYPOINT_ON False and ROI_HEADS.NAME {' or '.join(HEADS)}"
    missing = sorted({*FROZEN} - {*cfg.WSIS.FREEZE})
    if missing:
        return f"WSIS.FREEZE: {missing[0]} learns, expected all of {', '.join(FROZEN)}"
    if not model.ROI_MASK_HEAD.POOLER_TYPE:
        return f"MODEL.ROI_MASK_HEAD: {model.ROI_MASK_HEAD.NAME} looks at more than RoI features"
    return ""


def check_recordable(cfg: CfgNode) -> None:
    """Checks that all but the mask head is frozen, and that it looks at RoI features and colours alone.

    Raises:
        ConfigError: it is not so.
    """
    reason = why_not_recorded(cfg)
    if reason:
        raise ConfigError(reason)


def recorded_keys(cfg: CfgNode) -> dict[str, Any]:
    """The config keys that the features of a region depend on, as one level, ready for JSON; none of those of methods,
    which are no detectors.
    """
    methods = [f"{path}." for path, kind in nodes() if kind.__module__.startswith("wsis.methods.")]
    others = (*_NOT_RECORDED, *methods)
    flat = {
        name: value
        for name, value in flatten(cfg).items()
        if name.startswith(_POOLER) or name.startswith(_RECORDED) and not name.startswith(others)
    }
    return json.loads(json.dumps(flat, sort_keys=True))


def same_record(cfg: CfgNode, other: CfgNode) -> bool:
    """Whether two trainings on the same boxes from the same detector can learn from one record, the length of the
    second one's.
    """
    return bool(
        not (why_not_recorded(cfg) or why_not_recorded(other))
        and recorded_keys(cfg) == recorded_keys(other)
        and cfg.SOLVER.IMS_PER_BATCH == other.SOLVER.IMS_PER_BATCH
        and cfg.SOLVER.MAX_ITER <= other.SOLVER.MAX_ITER
    )


def record_bytes(cfg: CfgNode) -> float:
    """What a record takes at most, where the features are those of a pyramid."""
    heads, mask = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_MASK_HEAD
    regions = cfg.SOLVER.IMS_PER_BATCH * heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION
    return (
        4 * regions * cfg.SOLVER.MAX_ITER * cfg.MODEL.FPN.OUT_CHANNELS * mask.POOLER_RESOLUTION**2
    )


def record_header(cfg: CfgNode) -> dict[str, Any]:
    """What :attr:`wsis.data.roi_record.RoiRecord.header` says of a training, but its length."""
    return {
        "keys": recorded_keys(cfg),
        "images_per_batch": cfg.SOLVER.IMS_PER_BATCH,
        "weights_sha256": weights_sha256(cfg),
    }


@META_ARCH_REGISTRY.register()
class RecordedRCNN(GeneralizedRCNN, Method):
    """Mask R-CNN whose mask head trains on recorded RoI features, while the rest of it is frozen and does not run.

    Weights and tests are those of ``GeneralizedRCNN``, and so is the training: with the record's seed each step is the
    one that it would take.
    """

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """See :class:`Method`; also that the record is of this training, and whole."""
        _record(cfg)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        """See :func:`wsis.data.roi_record.build_record_loader`."""
        record, dicts = _record(cfg)
        mapper = WsisDatasetMapper(cfg, is_train=True)
        length, known = cfg.SOLVER.MAX_ITER, record.header["iterations"]
        if length > known:
            logger.warning(
                "%s: the RoI features of %d iterations are read again after their end, up to SOLVER.MAX_ITER %d; "
                "record as many for a training that is the one on images",
                record.folder,
                known,
                length,
            )
        return build_record_loader(record, dicts, mapper, length, cfg.DATALOADER.NUM_WORKERS)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """In training the mask losses; else as ``GeneralizedRCNN``."""
        if not self.training:
            return super().forward(batched_inputs)
        features = torch.cat([each["roi_features"] for each in batched_inputs])
        instances = [each["instances"].to(self.device) for each in batched_inputs]
        head = self.get_submodule("roi_heads.mask_head")
        return head(features.to(self.device), instances)


def _record(cfg: CfgNode) -> tuple[RoiRecord, list[dict[str, Any]]]:
    check_recordable(cfg)
    check_batch_size(cfg)
    folder = read(cfg, RecordParams).record
    if not folder:
        raise ConfigError(
            "MODEL.ROI_MASK_HEAD.RECORD: found nothing, expected a folder of tools/record_rois.py"
        )
    record = RoiRecord(Path(folder))
    dicts = training_dicts(cfg)
    record.check({**record_header(cfg), "objects": objects_of(dicts)})
    if record.recorded < record.header["iterations"]:
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.RECORD: {folder} has {record.recorded} of its {record.header['iterations']} "
            "iterations; finish it by tools/record_rois.py --resume"
        )
    return record, dicts
