"""What the parts about generation share: images of the `shapes` dataset, and a teacher for them."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling import build_model

from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.data.shapes import ShapesSpec, prepare_shapes
from wsis.errors import ConfigError
from wsis.modeling.teacher import Teacher, is_teacher

DATASET = "benchmark"


def draw_shapes(folder: Path, images: int, size: int) -> Path:
    """Draws training images of the `shapes` dataset; returns the folder.

    Args:
        folder: where; each number of images needs its own.
        images: number of images.
        size: of an image's side in pixels.
    """
    prepare_shapes(folder, ShapesSpec(size=size, train=images, val=1, salient=1))
    return folder


def custom_dataset(data: Path) -> list[list[str]]:
    """``DATASETS.CUSTOM`` for a folder of :func:`draw_shapes`."""
    json_file = data / "annotations" / "shapes_train_boxes.json"
    return [[DATASET, str(json_file), str(data / "images")]]


def teacher_cfg(data: Path, output: Path, method: str, workers: int) -> CfgNode:
    """The config of a generation on the CPU by a teacher that needs no weights.

    Args:
        data: folder of :func:`draw_shapes`.
        output: ``OUTPUT_DIR``.
        method: ``MODEL.META_ARCHITECTURE``.
        workers: ``PROXY.NUM_WORKERS``.
    """
    values = {
        "MODEL.META_ARCHITECTURE": method,
        "MODEL.DEVICE": "cpu",
        "DATASETS.CUSTOM": custom_dataset(data),
        "DATASETS.TRAIN": (DATASET,),
        "PROXY.NUM_WORKERS": workers,
        "OUTPUT_DIR": str(output),
    }
    cfg = load_cfg(None, [str(item) for pair in values.items() for item in pair])
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg


def build_teacher(cfg: CfgNode) -> Teacher:
    """The teacher in eval mode.

    Raises:
        ConfigError: ``MODEL.META_ARCHITECTURE`` is none.
    """
    if not is_teacher(cfg):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: {cfg.MODEL.META_ARCHITECTURE} is not a teacher"
        )
    return build_model(cfg).eval()
