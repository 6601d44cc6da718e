"""A trained student on images of one's own, and what it finds there as a COCO annotation file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances

import wsis
from wsis.data.build import dataset_source
from wsis.data.classes import Categories, brief, categories_of, matched, names_of
from wsis.data.mapper import TeacherDatasetMapper
from wsis.data.registration import get_source, prepare_datasets, register_custom
from wsis.engine.checkpoint import trained_categories
from wsis.engine.journal import (
    Entry,
    ImageId,
    JournalIndex,
    JournalWriter,
    failure_line,
    header_line,
    journal_line,
    locked,
)
from wsis.engine.provenance import keys_under
from wsis.engine.proxy_predictor import load_model
from wsis.errors import ConfigError, WsisError, counted
from wsis.modeling.pretrained import weights_sha256
from wsis.modeling.teacher import is_maker
from wsis.structures.boxes import clip_boxes
from wsis.structures.proxy_file import SCORE_DIGITS, remove_torn, write_proxy_file
from wsis.structures.rle import encode_mask, rle_area

_RESULT_KEYS = (
    "DATASETS.CLASS_AGNOSTIC",
    "INPUT.FORMAT",
    "INPUT.HIGH_BIT_DEPTH",
    "INPUT.MAX_SIZE_TEST",
    "INPUT.MIN_SIZE_TEST",
    "MODEL.RETINANET.NMS_THRESH_TEST",
    "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_MASK_HEAD.CRF",
    "MODEL.RPN.NMS_THRESH",
    "MODEL.RPN.POST_NMS_TOPK_TEST",
    "MODEL.RPN.PRE_NMS_TOPK_TEST",
    "TEST.DETECTIONS_PER_IMAGE",
)
"""Config keys, or their prefixes, that are recorded beside the weights."""
_BOX_DIGITS = 2


class Predictor:
    """A trained model for one image at a time.

    Args:
        cfg: of a model that is no teacher, with its ``MODEL.WEIGHTS`` and class numbers; not changed.

    Raises:
        ConfigError: a teacher, no such device, or the weights are missing or do not fit.
    """

    def __init__(self, cfg: CfgNode) -> None:
        if is_maker(cfg):
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} makes masks, labels or score maps of a "
                "data set: use tools/generate_proxy_masks.py"
            )
        self.model = load_model(cfg)
        self.mapper = TeacherDatasetMapper(cfg, keep_original=True)

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """What the model returns for an image, at the image's size.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            ``instances`` of a detector, ``sem_seg`` (K, H, W) of a semantic model; on the model's device.
        """
        record = {"file_name": "", "image_id": 0, "annotations": []}
        record.update(height=image.shape[0], width=image.shape[1])
        inputs = self.mapper(record, image)
        del inputs["instances"]  # of given boxes, of which there are none
        with torch.no_grad():
            return self.model([inputs])[0]


def to_annotations(
    instances: Instances, categories: Categories, threshold: float
) -> list[dict[str, Any]]:
    """Predicted instances as COCO annotations without ``id`` and ``image_id``.

    Args:
        instances: at the image's size: ``pred_boxes`` XYXY, ``scores``, ``pred_classes``, and ``pred_masks`` (N, H, W)
            where the model has masks.
        categories: of the contiguous classes.
        threshold: smallest score.

    Returns:
        In the order of the instances; those whose box has no area or whose mask has no pixel are left out.
    """
    instances = instances[instances.scores >= threshold].to("cpu")
    boxes = clip_boxes(instances.pred_boxes.tensor.numpy(), *instances.image_size)
    boxes[:, 2:] -= boxes[:, :2]
    scores, classes = instances.scores.tolist(), instances.pred_classes.tolist()
    annotations = []
    for row, box in enumerate(boxes.round(_BOX_DIGITS).tolist()):
        if min(box[2:]) <= 0:
            continue
        annotation = {
            "category_id": categories[classes[row]]["id"],
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": round(scores[row], SCORE_DIGITS),
            "status": "ok",
        }
        if instances.has("pred_masks"):
            code = encode_mask(instances.pred_masks[row].numpy())
            annotation |= {"segmentation": code, "area": rle_area(code)}
        if annotation["area"] > 0:
            annotations.append(annotation)
    return annotations


def resolve_categories(cfg: CfgNode, class_names: Sequence[str] = ()) -> Categories:
    """The classes that the model knows; fills in its class numbers.

    Args:
        cfg: changed in place.
        class_names: in the order of training; empty = those that the weights know, else those of the first dataset in
            ``DATASETS.TRAIN`` and ``DATASETS.TEST`` that can be read, or that Detectron2 knows the classes of.

    Raises:
        ConfigError: nothing says what the classes are, or they contradict a class number or the weights.
    """
    if cfg.DATASETS.CLASS_AGNOSTIC:
        return _numbered(cfg, ["object"])
    trained = trained_categories(cfg)
    known = names_of(trained)
    if class_names:
        if known != list(class_names) and sorted(known) == sorted(class_names):
            raise ConfigError(
                f"--classes: found {brief(class_names)}, but {cfg.MODEL.WEIGHTS} was trained with {brief(known)}; "
                "leave --classes out"
            )
        return _numbered(cfg, class_names)
    if trained:
        trained = _with_ids_of_today(cfg, trained)
        return _numbered(cfg, names_of(trained), {i: c["id"] for i, c in enumerate(trained)})
    reasons = []
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        listed = name in MetadataCatalog.list()  # asking for another one would make it
        metadata = MetadataCatalog.get(name).as_dict() if listed else {}
        try:
            prepare_datasets(cfg, [name])
        except WsisError as error:
            if "thing_classes" in metadata:
                ids = metadata.get("thing_dataset_id_to_contiguous_id", {})
                return _numbered(cfg, metadata["thing_classes"], {c: i for i, c in ids.items()})
            reasons.append(str(error))
            continue
        return categories_of(dataset_source(cfg, name))
    reason = reasons[0] if reasons else "DATASETS.TRAIN: found nothing that has classes"
    raise ConfigError(f"{reason}; without the dataset name its classes by --classes FILE")


def _with_ids_of_today(cfg: CfgNode, trained: Categories) -> Categories:
    """The classes of the weights with the ids and names that the training's dataset has by now, where it knows them
    by name; what changed is told in one line.
    """
    for name in cfg.DATASETS.TRAIN[:1]:
        try:
            register_custom(cfg)
            source = get_source(name, bad_box="later", need_boxes=False)
        except WsisError:  # nothing of it is needed
            continue
        same = matched(source, trained)
        if same is not source:
            used = "which are used" if same is None else "matched by name; the file's ids are used"
            source.tell(
                f"its classes are by now {brief(source.class_names)}; the weights were trained with "
                f"{brief(names_of(trained))}, {used}"
            )
        return trained if same is None else same.run_categories
    return trained


def _numbered(
    cfg: CfgNode, names: Sequence[str], ids: Mapping[int, int] = MappingProxyType({})
) -> Categories:
    """Categories 1, 2, ..., or of these ids by class, after a comparison with the class numbers."""
    for key, number in (("ROI_HEADS", 0), ("POINT_HEAD", 0), ("RETINANET", 0), ("SEM_SEG_HEAD", 1)):
        node = cfg.MODEL[key]
        if node.NUM_CLASSES not in (0, len(names) + number):
            there = f"there {'is' if len(names) == 1 else 'are'} {counted(len(names), 'class', 'classes')}"
            raise ConfigError(
                f"MODEL.{key}.NUM_CLASSES: found {node.NUM_CLASSES}, but {there}; "
                "name each class of the training once"
            )
        node.NUM_CLASSES = len(names) + number
    return [{"id": ids.get(i, i + 1), "name": name} for i, name in enumerate(names)]


def prediction_provenance(cfg: CfgNode, categories: Categories, threshold: float) -> dict[str, Any]:
    """What the predictions follow from, as ``info.wsis`` holds it; no path, time or host."""
    return {
        "version": wsis.__version__,
        "method": cfg.MODEL.META_ARCHITECTURE,
        "device": torch.device(cfg.MODEL.DEVICE).type,
        "config": keys_under(cfg, _RESULT_KEYS),
        "weights_sha256": weights_sha256(cfg),
        "score_threshold": threshold,
        "classes": [category["name"] for category in categories],
        "category_ids": [category["id"] for category in categories],
    }


class PredictionFolder:
    """Where predictions go: a journal while images are worked on, ``predictions.json`` in the end. To be used as a
    context manager, which keeps other runs out.

    Args:
        folder: made if need be.
        provenance: see :func:`prediction_provenance`.
        categories: of the model.

    Attributes:
        path: of the COCO file.
    """

    def __init__(self, folder: Path, provenance: dict[str, Any], categories: Categories) -> None:
        self.folder, self.provenance, self.categories = folder, provenance, categories
        self.path = folder / "predictions.json"
        self._journal = folder / "predictions.jsonl"
        self._stack = ExitStack()

    def __enter__(self) -> PredictionFolder:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(locked(self.folder, "run is writing predictions"))
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()

    def start(self, resume: bool, pictures: Iterable[Path] = ()) -> set[ImageId]:
        """Opens the journal; returns the names of the images that are finished.

        Args:
            resume: go on with what is there.
            pictures: that the run will write; what a killed run has left of them half-written is removed.

        Raises:
            WsisError: the folder has predictions and ``resume`` is false, or they were made otherwise.
            DataError: the journal is damaged.
        """
        if self._journal.exists() and not resume:
            raise WsisError(
                f"{self.folder}: has predictions already; continue them with --resume, or name another folder"
            )
        index = self._index()
        remove_torn(self.path, *pictures)
        end = index.ends[self._journal.name]
        writer = JournalWriter(self._journal, header_line(self.provenance), end)
        self._writer = self._stack.enter_context(writer)
        return set(index.done)

    def _index(self) -> JournalIndex:
        return JournalIndex([self._journal], self.provenance, _fits, "name another folder")

    def add(self, name: str, size: tuple[int, int], annotations: list[dict[str, Any]]) -> None:
        """A finished image: its name, height and width, and what :func:`to_annotations` returns."""
        entry = {"image_id": name, "size": size, "annotations": annotations}
        self._writer.append(journal_line(entry))

    def add_failure(self, name: str, reason: str) -> None:
        """An image that cannot be read."""
        self._writer.append(failure_line(name, reason))

    def finish(self, names: Sequence[str]) -> int:
        """Writes the COCO file of the finished ones among these images, in this order; returns the number of its
        annotations.
        """
        index = self._index()
        images: list[dict[str, Any]] = []
        for name in [name for name in names if name in index.done]:
            height, width = index.entry_of(name)["size"]
            place = {"id": len(images) + 1, "file_name": name}
            images.append({**place, "height": height, "width": width})
        ids = itertools.count(1)
        annotations = (
            {"id": next(ids), "image_id": image["id"], **annotation}
            for image in images
            for annotation in index.entry_of(image["file_name"])["annotations"]
        )
        method, version = self.provenance["method"], self.provenance["version"]
        info = {
            "description": f"Predictions of {method}, wsis {version}",
            "wsis": self.provenance,
        }
        write_proxy_file(self.path, info, images, self.categories, annotations)
        return next(ids) - 1


def _fits(name: ImageId, entry: Entry) -> bool:
    return isinstance(name, str) and ("failed" in entry or {"size", "annotations"} <= entry.keys())
