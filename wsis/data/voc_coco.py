"""VOC 2012 and SBD to COCO records: one function per image, joined by `datasets/prepare_voc2012.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsis.data.builtin_paths import BUILTIN, BUILTIN_SEM_SEG
from wsis.data.prepare import image_size, require_folder
from wsis.data.voc import (
    VOC_CLASSES,
    VocInstance,
    VocObject,
    check_size,
    image_id_of,
    match_instances,
    parse_voc_xml,
    read_class_png,
    read_list,
    read_sbd_classes,
    read_sbd_instances,
    read_voc_instances,
    train_aug_names,
)
from wsis.errors import DataError
from wsis.structures.pseudo_labels import IGNORE, write_label
from wsis.structures.rle import RLE, encode_mask, rle_area

CATEGORIES = [
    {"id": k, "name": name, "supercategory": "object"} for k, name in enumerate(VOC_CLASSES, 1)
]


@dataclass(frozen=True)
class VocFolders:
    """Where the official trees lie.

    Attributes:
        root (Path): the datasets root.
    """

    root: Path

    @property
    def voc(self) -> Path:
        """The official `VOCdevkit/VOC2012`."""
        return self.root / "VOCdevkit" / "VOC2012"

    @property
    def sbd(self) -> Path:
        """The official `benchmark_RELEASE/dataset`."""
        return self.root / "benchmark_RELEASE" / "dataset"

    @property
    def images(self) -> Path:
        """JPEG images of all sets."""
        return self.root / BUILTIN["voc_2012_trainaug"][1]

    @property
    def train_aug_classes(self) -> Path:
        """Where the class PNGs of train-aug are written."""
        return self.root / BUILTIN_SEM_SEG["voc_2012_trainaug_semantic"][2]["sem_seg"]

    def check(self) -> None:
        """Looks for every folder that is needed.

        Raises:
            DataError: names the first one that is missing.
        """
        for name in ("Annotations", "JPEGImages", "SegmentationObject", "SegmentationClass"):
            require_folder(self.voc / name, "the official VOC 2012 tree")
        for name in ("inst", "cls"):
            require_folder(self.sbd / name, "the official SBD tree")

    def names(self) -> tuple[list[str], list[str], frozenset[str]]:
        """The lists.

        Returns:
            Names of train-aug, of val, and those of train-aug that VOC itself has masks for.

        Raises:
            DataError: a list is missing or names an image that is not there.
        """
        lists = {}
        for key, path in {
            "train": self.voc / "ImageSets" / "Segmentation" / "train.txt",
            "val": self.voc / "ImageSets" / "Segmentation" / "val.txt",
            "sbd_train": self.sbd / "train.txt",
            "sbd_val": self.sbd / "val.txt",
        }.items():
            lists[key] = read_list(path)
            for name in lists[key]:
                if not (self.images / f"{name}.jpg").is_file():
                    raise DataError(f"{path}: names '{name}', but {self.images} has no {name}.jpg")
        train_aug = train_aug_names(
            lists["train"], lists["val"], lists["sbd_train"], lists["sbd_val"]
        )
        return train_aug, sorted(set(lists["val"])), frozenset(lists["train"])


@dataclass(frozen=True)
class VocRecord:
    """One converted image.

    Attributes:
        image (dict): COCO image; `void` is the code of its void pixels, where it has any.
        annotations (list): COCO annotations without `id` and `image_id`.
        unmatched_objects (int): XML objects without a mask.
        unmatched_masks (int): mask instances without an XML object.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    unmatched_objects: int
    unmatched_masks: int


def convert_train(
    name: str, folders: VocFolders, own_masks: frozenset[str], min_iou: float
) -> VocRecord:
    """A training image: one annotation per XML object, with the mask that matches it, if any.

    Also writes the image's class PNG to `folders.train_aug_classes`.

    Args:
        name: image name without suffix.
        folders: the official trees.
        own_masks: names of the images whose masks are VOC's own; the others' are SBD's.
        min_iou: see `match_instances`.

    Raises:
        DataError: any of its files is missing or wrong.
    """
    height, width, objects = _read_objects(name, folders)
    from_voc = name in own_masks
    if from_voc:
        labels, instances = _read_voc(name, folders, height, width)
        classes = read_class_png(folders.voc / "SegmentationClass" / f"{name}.png", height, width)
    else:
        mat = f"{name}.mat"
        labels, instances = read_sbd_instances(folders.sbd / "inst" / mat, height, width)
        classes = read_sbd_classes(folders.sbd / "cls" / mat, height, width)
    write_label(folders.train_aug_classes / f"{name}.png", classes)
    matched = match_instances(objects, instances, (height, width), min_iou, from_voc)
    annotations = []
    for position, voc_object in enumerate(objects):
        mask = None
        if position in matched:
            mask = encode_mask(labels == instances[matched[position]].label)
        annotations.append(_annotation(voc_object, mask))
    unmatched = len(objects) - len(matched), len(instances) - len(matched)
    return VocRecord(_image(name, labels), annotations, *unmatched)


def convert_val(name: str, folders: VocFolders, min_iou: float) -> VocRecord:
    """A validation image: one annotation per mask instance; its box is the XML's, or else tight.

    XML objects without a mask are left out: nothing can be compared with them.

    Args:
        name: image name without suffix.
        folders: the official trees.
        min_iou: see `match_instances`.

    Raises:
        DataError: any of its files is missing or wrong.
    """
    height, width, objects = _read_objects(name, folders)
    labels, instances = _read_voc(name, folders, height, width)
    matched = match_instances(objects, instances, (height, width), min_iou, True)
    owners = {instance: position for position, instance in matched.items()}
    annotations = []
    for position, instance in enumerate(instances):
        voc_object = objects[owners[position]] if position in owners else _tight(instance)
        annotations.append(_annotation(voc_object, encode_mask(labels == instance.label)))
    unmatched = len(objects) - len(matched), len(instances) - len(matched)
    return VocRecord(_image(name, labels), annotations, *unmatched)


def _read_objects(name: str, folders: VocFolders) -> tuple[int, int, list[VocObject]]:
    xml = folders.voc / "Annotations" / f"{name}.xml"
    jpeg = folders.images / f"{name}.jpg"
    height, width, objects = parse_voc_xml(xml)
    check_size(jpeg, image_size(jpeg), (height, width), f"as {xml} says")
    return height, width, objects


def _read_voc(
    name: str, folders: VocFolders, height: int, width: int
) -> tuple[np.ndarray, list[VocInstance]]:
    object_png, class_png = (
        folders.voc / kind / f"{name}.png" for kind in ("SegmentationObject", "SegmentationClass")
    )
    return read_voc_instances(object_png, class_png, height, width)


def _tight(instance: VocInstance) -> VocObject:
    x0, y0, x1, y1 = instance.box
    return VocObject(instance.category_id, (x0, y0, x1 - x0, y1 - y0), difficult=False)


def _image(name: str, labels: np.ndarray) -> dict[str, Any]:
    height, width = labels.shape
    image: dict[str, Any] = {
        "id": image_id_of(name),
        "file_name": f"{name}.jpg",
        "height": height,
        "width": width,
    }
    void = labels == IGNORE
    if void.any():
        image["void"] = encode_mask(void)
    return image


def _annotation(voc_object: VocObject, mask: RLE | None) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "category_id": voc_object.category_id,
        "bbox": list(voc_object.bbox),
        "area": voc_object.bbox[2] * voc_object.bbox[3],
        "iscrowd": 0,
        "difficult": int(voc_object.difficult),
    }
    if mask is not None:
        annotation["segmentation"] = mask
        annotation["area"] = rle_area(mask)
    return annotation
