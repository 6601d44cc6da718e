"""The evaluator that fits what a model returns and what a dataset holds."""

from __future__ import annotations

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from wsis.data.build import is_teacher
from wsis.errors import ConfigError
from wsis.evaluation.instance import InstanceEvaluator
from wsis.evaluation.proxy_evaluator import ProxyEvaluator


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_dir: str | None = None
) -> DatasetEvaluator:
    """A teacher's masks are scored against the true ones, anything else as instances in COCO's way.

    Args:
        cfg: ``MODEL.META_ARCHITECTURE`` decides; ``TEST.DETECTIONS_PER_IMAGE`` above COCO's 100 is honoured.
        dataset_name: a registered dataset with instances.
        output_dir: default ``OUTPUT_DIR/inference/<dataset_name>``.

    Raises:
        ConfigError: the dataset is not one of instances.
    """
    output_dir = output_dir or os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    if is_teacher(cfg):
        return ProxyEvaluator(dataset_name, output_dir)
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    if kind != "coco":
        raise ConfigError(
            f"DATASETS.TEST: {dataset_name!r} is of type {kind!r}, expected a dataset of instances (coco)"
        )
    return InstanceEvaluator(
        dataset_name, output_dir, max_dets_per_image=max(100, cfg.TEST.DETECTIONS_PER_IMAGE)
    )
