"""What classifiers of image tags train on: an image under random transforms, and its tags as a multi-hot vector.

The transforms are Detectron2's and torchvision's, in the order of the papers: size, mirror image, colours, crop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from PIL import Image
from torchvision.transforms import ColorJitter

from wsis.config.params import key, node, read
from wsis.config.rules import Rule, at_least, either, one_of, pair
from wsis.data.build import training_categories, training_dicts, warn_if_alike
from wsis.data.classes import names_of
from wsis.data.images import read_image
from wsis.data.mapper import WsisDatasetMapper, image_options
from wsis.errors import ConfigError, DataError, counted

logger = logging.getLogger(__name__)

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@node("INPUT.TAG_CROP")
@dataclass(frozen=True)
class TagCropParams:
    """How an image becomes a sample of a method that learns from image tags; the defaults are those of BAS on CUB.

    Attributes:
        kind: With "square" every image becomes RESIZE x RESIZE pixels, whatever its form; with "long_side" the longer
            side is drawn from LONG_SIDE and the form kept.
        resize: Side in pixels of the square image.
        long_side: Shortest and longest length in pixels of the longer side.
        size: Side in pixels of the crop, at a random place; a smaller image lies at a random place in the colour
            MODEL.PIXEL_MEAN.
        interpolation: Either is antialiased.
        jitter: Ranges of brightness, contrast, saturation (factors in 1 - j to 1 + j) and of hue (turns in -j to j, of
            the whole circle), in an order that is drawn anew for each image.
        test: What is seen at test time: "centre" is the middle of the square image, SIZE x SIZE; "resize" the whole
            image made SIZE x SIZE; "whole" the image in its own form, as INPUT.MIN_SIZE_TEST says.
    """

    kind: str = key("square", either("square", "long_side"))
    resize: int = key(256, at_least(1))
    long_side: tuple[int, int] = key(
        (320, 640),
        pair("two numbers above 0, the lower one first", lambda low, high: 0 < low <= high),
    )
    size: int = key(224, at_least(16))
    interpolation: str = key("bilinear", one_of(INTERPOLATIONS))
    jitter: tuple[float, float, float, float] = key(
        (0.0, 0.0, 0.0, 0.0),
        Rule(
            "four numbers of at least 0, the last one at most 0.5",
            lambda values: len(values) == 4 and min(values) >= 0 and values[3] <= 0.5,
        ),
    )
    test: str = key("centre", one_of(("centre", "resize", "whole")))


def _integer(low: int, high: int) -> int:
    """Drawn from low to high, both included."""
    return int(torch.randint(low, high + 1, ()))


class ResizeLongSide(T.Augmentation):
    """Makes the longer side a whole number of pixels that is drawn, and rounds the other one.

    Args:
        low, high: the shortest and the longest length.
        interp: PIL's number of an interpolation.
    """

    def __init__(self, low: int, high: int, interp: int) -> None:
        super().__init__()
        self.low, self.high, self.interp = low, high, interp

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The transform of one (H, W, 3) image."""
        size = image.shape[:2]
        factor = _integer(self.low, self.high) / max(size)
        scaled = [max(1, round(side * factor)) for side in size]
        return T.ResizeTransform(*size, *scaled, self.interp)


def training_transforms(params: TagCropParams) -> list[T.Augmentation | T.Transform]:
    """What an RGB image goes through in training, before the padding."""
    interp = INTERPOLATIONS[params.interpolation]
    square = T.Resize(params.resize, interp)
    resize = square if params.kind == "square" else ResizeLongSide(*params.long_side, interp)
    colours = [T.PILColorTransform(ColorJitter(*params.jitter))] if any(params.jitter) else []
    return [resize, T.RandomFlip(), *colours, T.RandomCrop("absolute", (params.size, params.size))]


def eval_transforms(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """What an image goes through at test time; nothing of it is drawn.

    Args:
        cfg: ``INPUT.TAG_CROP``, ``INPUT.MIN_SIZE_TEST``, ``INPUT.MAX_SIZE_TEST``.

    Raises:
        ConfigError: a value out of its range.
    """
    params = read(cfg, TagCropParams)
    if params.test == "whole":
        sizes = [cfg.INPUT.MIN_SIZE_TEST]
        return [T.ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TEST, "choice")]
    interp = INTERPOLATIONS[params.interpolation]
    if params.test == "resize":
        return [T.Resize(params.size, interp)]
    margin = (params.resize - params.size) // 2
    if margin < 0:
        raise ConfigError(
            f"INPUT.TAG_CROP.RESIZE: found {params.resize}, expected at least the {params.size} of "
            "INPUT.TAG_CROP.SIZE for INPUT.TAG_CROP.TEST centre"
        )
    return [T.Resize(params.resize, interp), T.CropTransform(margin, margin, *[params.size] * 2)]


def eval_mapper(cfg: CfgNode, keep_original: bool = False) -> WsisDatasetMapper:
    """From the dict of an image to one input of eval mode.

    Args:
        cfg: ``INPUT``.
        keep_original: see :class:`wsis.data.mapper.WsisDatasetMapper`.

    Raises:
        ConfigError: a value out of its range.
    """
    return WsisDatasetMapper(
        is_train=False,
        augmentations=eval_transforms(cfg),
        keep_original=keep_original,
        **image_options(cfg),
    )


class TagMapper:
    """Maps a dataset dict to one sample: ``image`` (3, size, size) float32 in 0 to 255 in ``INPUT.FORMAT``, and
    ``tags`` (C,) float32, 1 for each class that the image shows. Nothing else of the dict is looked at.

    Args:
        transforms: what an RGB image goes through, to at most ``size`` in either side.
        size: of the sample.
        num_classes: C.
        padding: colour around a smaller image, in ``image_format``.
        image_format: "RGB" or "BGR".
        high_bit_depth: see :func:`wsis.data.images.read_image`.
    """

    @configurable
    def __init__(
        self,
        *,
        transforms: Sequence[T.Augmentation | T.Transform],
        size: int,
        num_classes: int,
        padding: Sequence[float],
        image_format: str,
        high_bit_depth: str,
    ) -> None:
        self.transforms = T.AugmentationList(transforms)
        self.size, self.num_classes = size, num_classes
        self.padding = torch.tensor(padding, dtype=torch.float32).view(-1, 1, 1)
        self.image_format, self.high_bit_depth = image_format, high_bit_depth

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``INPUT``, ``MODEL.PIXEL_MEAN`` and ``MODEL.ROI_HEADS.NUM_CLASSES``.

        Raises:
            ConfigError: a value out of its range.
        """
        params = read(cfg, TagCropParams)
        return {
            "transforms": training_transforms(params),
            "size": params.size,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "padding": cfg.MODEL.PIXEL_MEAN,
            **image_options(cfg),
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Reads and transforms one image.

        Args:
            record: ``file_name``, ``height``, ``width`` and ``image_labels``, the sorted contiguous classes.

        Raises:
            DataError: the image cannot be read or has another size.
        """
        size = record["height"], record["width"]
        inputs = T.AugInput(read_image(record["file_name"], *size, self.high_bit_depth))
        self.transforms(inputs)
        pixels = inputs.image if self.image_format == "RGB" else inputs.image[:, :, ::-1]
        tags = torch.zeros(self.num_classes)
        tags[record["image_labels"]] = 1
        return {"image": self._padded(pixels.transpose(2, 0, 1)), "tags": tags}

    def _padded(self, pixels: np.ndarray) -> torch.Tensor:
        height, width = pixels.shape[1:]
        out = self.padding.repeat(1, self.size, self.size)
        top, left = (_integer(0, self.size - side) for side in (height, width))
        out[:, top : top + height, left : left + width] = torch.from_numpy(pixels.copy())
        return out


def tag_records(cfg: CfgNode, *, one_tag: bool = False) -> list[dict[str, Any]]:
    """The images of ``DATASETS.TRAIN`` with their tags, and with nothing else that the files have. Images without tags
    are left out, with a warning, unless ``DATALOADER.FILTER_EMPTY_ANNOTATIONS`` is False; classes that no image has are
    named in another one.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
        one_tag: the loss takes one tag of an image.

    Raises:
        ConfigError: ``WSIS.SUPERVISION`` is neither image nor box.
        DataError: a file is wrong, no image has a tag, or with ``one_tag`` an image has not exactly one.
    """
    if cfg.WSIS.SUPERVISION not in ("image", "box"):
        raise ConfigError(
            f"WSIS.SUPERVISION: found {cfg.WSIS.SUPERVISION!r}, expected image, or box to take the tags of the boxes: "
            f"{cfg.MODEL.META_ARCHITECTURE} learns from image tags"
        )
    records = training_dicts(cfg, "image")
    numbers = [len(record["image_labels"]) for record in records]
    names = ", ".join(cfg.DATASETS.TRAIN)
    if not any(numbers):
        raise DataError(
            f"DATASETS.TRAIN: {names}: found no image with a tag, expected at least one"
        )
    wrong = [r for r, number in zip(records, numbers, strict=True) if one_tag and number != 1]
    if wrong:
        tags = counted(len(wrong[0]["image_labels"]), "tag")
        raise DataError(
            f"DATASETS.TRAIN: {names}: {counted(len(wrong), 'image')} without exactly one tag, the first is "
            f"{wrong[0]['file_name']} with {tags}; the loss wants one of each image"
        )
    warn_if_alike(cfg, (record["image_labels"] for record in records), "image", "images")
    seen = {tag for record in records for tag in record["image_labels"]}
    classes = names_of(training_categories(cfg))
    unseen = [name for number, name in enumerate(classes) if number not in seen]
    if unseen:
        some = ", ".join(unseen[:5]) + (", ..." if len(unseen) > 5 else "")
        are = counted(len(unseen), "class is", "classes are")
        logger.warning(
            "DATASETS.TRAIN: %s: %s on no image and cannot be learnt: %s", names, are, some
        )
    return records
