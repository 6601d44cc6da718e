"""Where the builtin datasets lie: plain tables, read by the registration and by `datasets/prepare_*.py`.

Every path is relative to the datasets root (`datasets_root()`); `datasets/README.md` shows the trees.
Nothing here touches the disk.
"""

from __future__ import annotations

import os
from pathlib import Path

_VOC_IMAGES = "VOCdevkit/VOC2012/JPEGImages"
_VOC_JSON = "voc_2012/annotations"

# Instance datasets: name -> (COCO JSON, image root).
BUILTIN: dict[str, tuple[str, str]] = {
    "voc_2012_trainaug_boxes": (f"{_VOC_JSON}/voc_2012_trainaug_boxes.json", _VOC_IMAGES),
    "voc_2012_trainaug": (f"{_VOC_JSON}/voc_2012_trainaug.json", _VOC_IMAGES),
    "voc_2012_train_instances": (f"{_VOC_JSON}/voc_2012_train.json", _VOC_IMAGES),
    "voc_2012_val_instances": (f"{_VOC_JSON}/voc_2012_val_instances.json", _VOC_IMAGES),
    "coco_2017_train_boxes": ("coco/annotations/instances_train2017_boxes.json", "coco/train2017"),
    "duts_tr_single": ("duts/annotations/duts_tr_single.json", "DUTS-TR/DUTS-TR-Image"),
    **{
        f"{name}_{split}": (f"{name}/annotations/{name}_{split}.json", images)
        for name, images in (
            ("cub", "CUB_200_2011"),
            ("ilsvrc_loc", "ILSVRC"),
            ("openimages30k", "OpenImages30k"),
        )
        for split in ("train", "val", "test")
    },
    "nuclei_train_boxes": ("nuclei/annotations/nuclei_train_boxes.json", "nuclei/images"),
    "nuclei_train": ("nuclei/annotations/nuclei_train.json", "nuclei/images"),
    "nuclei_val": ("nuclei/annotations/nuclei_val.json", "nuclei/images"),
    "shapes_train_boxes": ("shapes/annotations/shapes_train_boxes.json", "shapes/images"),
    "shapes_train": ("shapes/annotations/shapes_train.json", "shapes/images"),
    "shapes_val": ("shapes/annotations/shapes_val.json", "shapes/images"),
    "shapes_salient": ("shapes/annotations/shapes_salient.json", "shapes/images"),
}

# Semantic datasets: name -> (COCO JSON of the images, image root, {label name: PNG folder}).
# A PNG has the file name of its image with the suffix replaced; values are category ids, 0 is
# background, 255 is void.
BUILTIN_SEM_SEG: dict[str, tuple[str, str, dict[str, str]]] = {
    "voc_2012_trainaug_semantic": (
        f"{_VOC_JSON}/voc_2012_trainaug_boxes.json",
        _VOC_IMAGES,
        {"sem_seg": "voc_2012/SegmentationClassAug"},
    ),
    "voc_2012_train_semantic": (
        f"{_VOC_JSON}/voc_2012_train.json",
        _VOC_IMAGES,
        {"sem_seg": "VOCdevkit/VOC2012/SegmentationClass"},
    ),
    "voc_2012_val_semantic": (
        f"{_VOC_JSON}/voc_2012_val_instances.json",
        _VOC_IMAGES,
        {"sem_seg": "VOCdevkit/VOC2012/SegmentationClass"},
    ),
}


def datasets_root() -> Path:
    """Folder of all builtin datasets: `$DETECTRON2_DATASETS`, else `datasets` (as Detectron2)."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()
