"""From a dataset dict to what a model eats: one mapper for students, one for teachers.

Detectron2's own mapper drops an annotation whose mask is empty, which turns its object into
background, and recomputes boxes from masks after a crop. Both let masks decide about boxes; here
they never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.structures import Boxes, BoxMode, Instances

from wsis.config.params import read
from wsis.data.images import read_image
from wsis.data.mask_transform import transform_masks
from wsis.data.scale_jitter import ScaleJitterParams
from wsis.errors import ConfigError, DataError
from wsis.structures.run_masks import RunMasks
from wsis.structures.shared_image import SharedImage

_NOT_FOR_MODELS = ("annotations", "void")
BOX_HEAD = "BoxMaskHead"
"""The mask head that needs no masks, see :class:`wsis.modeling.box_mask_head.BoxMaskHead`."""


class WsisDatasetMapper:
    """Maps a dataset dict for detectors and students.

    The result has `image` (3, h, w) uint8 in `image_format`, all of the dict but its annotations,
    and in training `instances` at the image's new size, with
    `gt_boxes`, `gt_classes`, `gt_ids` (the source's annotation ids, int64); with masks also
    `gt_masks` and, if any annotation of the image has one, `gt_ignore_masks` (bit masks), and
    `gt_scores` (float32 in [0, 1]): 0 where there is no mask, or none is left after a crop, so
    that :class:`wsis.modeling.proxy_mask_head.ProxyMaskHead` leaves it out.

    An annotation is dropped if it is a crowd or its box is empty after the transforms, whatever
    its mask is.

    Args:
        is_train: also make `instances`.
        augmentations: Detectron2 augmentations or transforms, in order.
        image_format: "RGB" or "BGR".
        high_bit_depth: see :func:`wsis.data.images.read_image`.
        use_masks: make the mask fields.
        use_colours: also make `gt_image`, the image for each instance
            (:class:`wsis.structures.shared_image.SharedImage`).
        keep_original: add `original_image` (H, W, 3) uint8 RGB.
        keep_transforms: add `transforms`, what the image went through.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        high_bit_depth: str,
        use_masks: bool = False,
        use_colours: bool = False,
        keep_original: bool = False,
        keep_transforms: bool = False,
    ) -> None:
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.high_bit_depth = high_bit_depth
        self.use_masks, self.use_colours = use_masks, use_colours
        self.keep_original, self.keep_transforms = keep_original, keep_transforms

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Reads the keys under `INPUT`, `MODEL.MASK_ON` and `WSIS.SUPERVISION`.

        Raises:
            ConfigError: a mask head without masks to train on, or a form of input that wsis does
                not have.
        """
        if is_train:
            _check_training_config(cfg)
        augmentations = build_augmentation(cfg, is_train)
        jitter = read(cfg, ScaleJitterParams)
        if is_train and jitter.size:
            augmentations[:1] = jitter.augmentations()
        if is_train and cfg.INPUT.CROP.ENABLED:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "use_masks": is_train and learns_masks(cfg),
            "use_colours": _learns_colours(cfg),
            **image_options(cfg),
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Reads and transforms one image and its annotations.

        Args:
            dataset_dict: as :func:`wsis.data.dicts.to_dicts` makes it; not changed.

        Raises:
            DataError: the image cannot be read or has another size.
        """
        image = _load(dataset_dict, self.high_bit_depth)
        inputs = T.AugInput(_to_format(image, self.image_format))
        transforms = self.augmentations(inputs)
        result = {k: v for k, v in dataset_dict.items() if k not in _NOT_FOR_MODELS}
        result["image"] = _to_tensor(inputs.image)
        if self.keep_original:
            result["original_image"] = image
        if self.keep_transforms:
            result["transforms"] = transforms
        if self.is_train:
            shape = inputs.image.shape[:2]
            instances = self.instances(dataset_dict, transforms, shape)
            if self.use_colours:
                instances.gt_image = SharedImage(result["image"], len(instances))
            result["instances"] = instances
        return result

    def image(self, dataset_dict: dict[str, Any], transforms: T.TransformList) -> torch.Tensor:
        """The image (3, h, w) of a dict after its transforms, which are given.

        Raises:
            DataError: the image cannot be read or has another size.
        """
        pixels = _to_format(_load(dataset_dict, self.high_bit_depth), self.image_format)
        return _to_tensor(transforms.apply_image(pixels))

    def instances(
        self, dataset_dict: dict[str, Any], transforms: T.TransformList, shape: tuple[int, int]
    ) -> Instances:
        """The annotations of an image after its transforms, at its new size.

        Raises:
            DataError: a mask cannot be decoded.
        """
        annotations = _objects(dataset_dict)
        boxes = Boxes(transforms.apply_box(_boxes(annotations)))
        boxes.clip(shape)
        keep = boxes.nonempty(threshold=1e-5)
        annotations = [a for a, kept in zip(annotations, keep.tolist(), strict=True) if kept]
        instances = Instances(shape)
        instances.gt_boxes = boxes[keep]
        instances.gt_classes = _integers(annotations, "category_id")
        instances.gt_ids = _integers(annotations, "id")
        if self.use_masks:
            size = dataset_dict["height"], dataset_dict["width"]
            try:
                _add_masks(instances, annotations, transforms, size)
            except ValueError as error:
                label = f"{dataset_dict['file_name']}: image {dataset_dict['image_id']!r}"
                raise DataError(f"{label}: a mask cannot be decoded: {error}") from error
        return instances


class TeacherDatasetMapper:
    """Maps a dataset dict for a teacher: an image and the boxes that want masks, without chance.

    The result has `image` (3, h, w) uint8 in `image_format` at network size, all of the dict but
    its annotations (`height`, `width`, `file_name`, `image_id`), and `instances` at network size
    with `gt_boxes` in network pixels, `original_boxes` (N, 4) float32 XYXY in original pixels,
    `gt_classes` and `annotation_ids` (N,) int64. Crowds are left out of these; where there are any,
    `crowd_boxes` (M, 4) float64 XYXY in original pixels has them.

    Args:
        augmentations: deterministic ones, as at test.
        image_format: "RGB" or "BGR".
        high_bit_depth: see :func:`wsis.data.images.read_image`.
        keep_original: add `original_image` (H, W, 3) uint8 RGB, which a teacher needs when it is
            called in eval mode.
        needs_image: False leaves `image` out, and network size is then the original size; unless
            `keep_original` asks for it, no image is read.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        high_bit_depth: str,
        keep_original: bool = False,
        needs_image: bool = True,
    ) -> None:
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.high_bit_depth = high_bit_depth
        self.keep_original = keep_original
        self.needs_image = needs_image

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads the keys under `INPUT` for the test size."""
        # a list of one size: for a number Detectron2 draws between it and itself, and so moves
        # the random state that a teacher may be drawing from in another thread
        sizes = [cfg.INPUT.MIN_SIZE_TEST]
        resize = T.ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TEST, "choice")
        return {"augmentations": [resize], **image_options(cfg)}

    def __call__(
        self, dataset_dict: dict[str, Any], image: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Reads one image and its boxes.

        Args:
            dataset_dict: as :func:`wsis.data.dicts.to_dicts` makes it; not changed.
            image: (H, W, 3) uint8 RGB, used instead of reading `file_name`.

        Raises:
            DataError: the image cannot be read or has another size.
        """
        result, transforms, shape = self._image(dataset_dict, image)
        annotations = _objects(dataset_dict)
        boxes = _boxes(annotations)
        instances = Instances(shape)
        instances.gt_boxes = Boxes(transforms.apply_box(boxes))
        instances.original_boxes = torch.as_tensor(boxes, dtype=torch.float32)
        instances.gt_classes = _integers(annotations, "category_id")
        instances.annotation_ids = _integers(annotations, "id")
        result["instances"] = instances
        crowds = [a for a in dataset_dict["annotations"] if a.get("iscrowd") and "bbox" in a]
        if crowds:
            result["crowd_boxes"] = _boxes(crowds)
        return result

    def _image(
        self, dataset_dict: dict[str, Any], image: np.ndarray | None
    ) -> tuple[dict[str, Any], T.TransformList, tuple[int, int]]:
        """The result without its boxes, what was done to the image, and its size then."""
        result = {k: v for k, v in dataset_dict.items() if k not in _NOT_FOR_MODELS}
        if image is None and (self.needs_image or self.keep_original):
            image = _load(dataset_dict, self.high_bit_depth)
        if self.keep_original:
            result["original_image"] = image
        if not self.needs_image or image is None:
            return result, T.TransformList([]), (dataset_dict["height"], dataset_dict["width"])
        inputs = T.AugInput(_to_format(image, self.image_format))
        transforms = self.augmentations(inputs)
        result["image"] = _to_tensor(inputs.image)
        return result, transforms, inputs.image.shape[:2]


class TagDatasetMapper(TeacherDatasetMapper):
    """Maps a dataset dict for a teacher that knows what an image shows and not where.

    The result is that of :class:`TeacherDatasetMapper` with `tags`, the sorted contiguous classes of the image, in
    place of every box.
    """

    def __call__(
        self, dataset_dict: dict[str, Any], image: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Reads one image and its tags, see :meth:`TeacherDatasetMapper.__call__`."""
        result, _, _ = self._image(dataset_dict, image)
        result["tags"] = list(dataset_dict["image_labels"])
        return result


def _add_masks(
    instances: Instances,
    annotations: list[dict[str, Any]],
    transforms: T.TransformList,
    size: tuple[int, int],
) -> None:
    n = len(annotations)
    keys = ("segmentation", "ignore_segmentation")
    given = [a.get(key) for key in keys for a in annotations]
    if not any(given[n:]):
        del given[n:]
    masks = RunMasks.from_segmentations(given, *size)
    masks = transform_masks(masks, transforms, instances.image_size)
    scores = torch.tensor([a.get("score", 1.0) for a in annotations], dtype=torch.float32)
    instances.gt_masks = masks[:n]
    instances.gt_scores = scores * instances.gt_masks.nonempty()
    if len(masks) > n:
        instances.gt_ignore_masks = masks[n:]


def learns_masks(cfg: CfgNode) -> bool:
    """Whether a model learns from masks: it has a mask head, which is not one of box losses alone."""
    head = cfg.MODEL.ROI_MASK_HEAD
    return bool(cfg.MODEL.MASK_ON and (head.NAME != BOX_HEAD or head.BOX.MASK_WEIGHT > 0))


def _learns_colours(cfg: CfgNode) -> bool:
    """Whether the mask head looks at the image's colours."""
    head = cfg.MODEL.ROI_MASK_HEAD
    of_boxes = head.NAME == BOX_HEAD and head.BOX.AFFINITY_WEIGHT > 0
    return bool(of_boxes or head.SIMILARITY.WEIGHT > 0)


def _check_training_config(cfg: CfgNode) -> None:
    if learns_masks(cfg) and cfg.WSIS.SUPERVISION not in ("proxy", "mask"):
        raise ConfigError(
            f"MODEL.MASK_ON: masks are needed, but WSIS.SUPERVISION is {cfg.WSIS.SUPERVISION!r}; "
            f"set WSIS.SUPERVISION proxy or mask, or learn from boxes alone by MODEL.ROI_MASK_HEAD.NAME {BOX_HEAD}"
        )
    if cfg.WSIS.SUPERVISION == "image":
        raise ConfigError(
            "WSIS.SUPERVISION: found 'image', expected box, proxy or mask: MODEL.META_ARCHITECTURE "
            f"{cfg.MODEL.META_ARCHITECTURE} learns from boxes"
        )
    if learns_masks(cfg) and cfg.INPUT.MASK_FORMAT != "bitmask":
        raise ConfigError(f"INPUT.MASK_FORMAT: found {cfg.INPUT.MASK_FORMAT!r}, expected bitmask")
    for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
        if cfg.MODEL[key]:
            raise ConfigError(f"MODEL.{key}: found True, expected False; wsis has no such input")


def image_options(cfg: CfgNode) -> dict[str, str]:
    """`image_format` and `high_bit_depth`, from `INPUT`.

    Raises:
        ConfigError: a value that wsis does not have.
    """
    allowed = {"FORMAT": ("RGB", "BGR"), "HIGH_BIT_DEPTH": ("minmax", "shift")}
    for key, values in allowed.items():
        if cfg.INPUT[key] not in values:
            expected = " or ".join(values)
            raise ConfigError(f"INPUT.{key}: found {cfg.INPUT[key]!r}, expected {expected}")
    return {"image_format": cfg.INPUT.FORMAT, "high_bit_depth": cfg.INPUT.HIGH_BIT_DEPTH}


def _load(dataset_dict: dict[str, Any], high_bit_depth: str) -> np.ndarray:
    size = dataset_dict["height"], dataset_dict["width"]
    return read_image(dataset_dict["file_name"], *size, high_bit_depth)


def _to_format(image: np.ndarray, image_format: str) -> np.ndarray:
    return image if image_format == "RGB" else np.ascontiguousarray(image[:, :, ::-1])


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) to (3, H, W), on memory of its own."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _objects(dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations that stand for one object each and have a box."""
    return [a for a in dataset_dict["annotations"] if not a.get("iscrowd") and "bbox" in a]


def _boxes(annotations: list[dict[str, Any]]) -> np.ndarray:
    """(N, 4) float64 XYXY."""
    xyxy = BoxMode.XYXY_ABS
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], xyxy) for a in annotations]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _integers(annotations: list[dict[str, Any]], key: str) -> torch.Tensor:
    return torch.tensor([a[key] for a in annotations], dtype=torch.int64)
