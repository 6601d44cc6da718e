"""The evaluator that fits what a model returns and what a dataset holds."""

from __future__ import annotations

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from wsis.data.registration import get_source
from wsis.errors import ConfigError
from wsis.evaluation.instance import InstanceEvaluator
from wsis.evaluation.proxy_evaluator import ProxyEvaluator
from wsis.evaluation.semantic import SemanticEvaluator
from wsis.evaluation.tags import TagEvaluator
from wsis.modeling.method import method_of


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_dir: str | None = None
) -> DatasetEvaluator:
    """A teacher's masks are scored against the true ones, semantic maps by their mIoU, tags by their average precision,
    anything else as instances in COCO's way.

    Args:
        cfg: ``MODEL.META_ARCHITECTURE`` decides; ``TEST.DETECTIONS_PER_IMAGE`` above COCO's 100 is honoured.
        dataset_name: a registered dataset; for semantic maps with one folder of true labels, or with masks.
        output_dir: default ``OUTPUT_DIR/inference/<dataset_name>``.

    Raises:
        ConfigError, DataError: the dataset does not hold the truth that the model's results need.
    """
    output_dir = output_dir or os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    returns = method_of(cfg).returns
    if returns == "proxy":
        return ProxyEvaluator(dataset_name, output_dir)
    if returns == "sem_seg":
        return SemanticEvaluator(
            dataset_name,
            output_dir,
            class_agnostic=cfg.DATASETS.CLASS_AGNOSTIC,
            save_labels=cfg.TEST.SAVE_LABELS,
            num_workers=cfg.PROXY.NUM_WORKERS,
        )
    if returns == "tags":
        return TagEvaluator(dataset_name, class_agnostic=cfg.DATASETS.CLASS_AGNOSTIC)
    if returns == "score_maps":
        raise ConfigError(
            f"DATASETS.TEST: nothing scores what MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} returns, score "
            "maps; leave it empty and write them by tools/generate_proxy_masks.py"
        )
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    if kind != "coco":
        raise ConfigError(
            f"DATASETS.TEST: {dataset_name!r} is of type {kind!r}, expected a dataset of instances (coco)"
        )
    get_source(dataset_name, bad_box="skip")
    return InstanceEvaluator(
        dataset_name, output_dir, max_dets_per_image=max(100, cfg.TEST.DETECTIONS_PER_IMAGE)
    )
