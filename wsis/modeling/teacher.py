"""The protocol that every teacher follows: one mask per given box, in two steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from wsis.data.build import Mapper
from wsis.data.mapper import TeacherDatasetMapper
from wsis.errors import ConfigError
from wsis.modeling.method import Method, method_of
from wsis.structures import ProxyMasks, Seed
from wsis.structures.rle import encode_box

Refiner = Callable[[Seed, np.ndarray], ProxyMasks]
"""``refine(seed, image)``: image is the original one, (H, W, 3) uint8 RGB."""


class Teacher(Method):
    """Turns an image and its boxes into one mask per box.

    The work is split so that a GPU never waits for the CPU: :meth:`propose` is the network's part, and what
    :meth:`refiner` returns is run by CPU workers. In eval mode calling the model does both.

    Attributes:
        needs_image: whether :meth:`propose` looks at ``image``; if not, the image is only decoded by the refiner.
        needs_void: whether the refiner looks at :attr:`Seed.void`, the regions that it was not asked about.
        result_keys: prefixes of the config keys that bear on the result, such as ("MODEL.GRABCUT",). They identify a
            run and are written to the proxy-mask file.
        location_keys: those among them that only say where something lies, which is not written.
        inputs_sha256: SHA-256, in hex, of the files beside weights and source that bear on the result, by config key.
        result_packages: modules beyond those that every teacher uses whose version bears on the result.
        label_names: the semantic maps that it makes of each image.
    """

    returns = "proxy"
    needs_image: bool = True
    needs_void: bool = False
    result_keys: tuple[str, ...] = ("MODEL", "INPUT")
    location_keys: tuple[str, ...] = ()
    inputs_sha256: Mapping[str, str] = MappingProxyType({})
    result_packages: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()

    @classmethod
    def check_requirements(cls) -> None:
        """Raises ConfigError where an optional package that this teacher needs is missing."""

    @classmethod
    def test_mapper(cls, cfg: CfgNode) -> Mapper:
        """With the boxes, and the original image for the refiner."""
        check_boxes_allowed(cfg)
        return TeacherDatasetMapper(cfg, keep_original=True)

    @abstractmethod
    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """The network's part, under ``torch.no_grad()``; a teacher that needs gradients opens ``enable_grad`` itself.

        Args:
            batched_inputs: as :class:`wsis.data.TeacherDatasetMapper` makes them: ``image`` (3, h, w) at network size
                in ``INPUT.FORMAT``, ``height``, ``width`` (original), ``file_name``, ``image_id``, and ``instances``
                with ``gt_boxes`` in network pixels, ``original_boxes`` (N, 4) in original pixels, ``gt_classes``,
                ``annotation_ids``; with :attr:`needs_original_image` also ``original_image``; where the image has
                crowds, their ``crowd_boxes`` (M, 4) in original pixels.

        Returns:
            One seed per image.
        """

    @abstractmethod
    def refiner(self) -> Refiner:
        """A picklable function without the model, to be run in another process."""

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Eval mode: both steps.

        Args:
            batched_inputs: see :meth:`propose`, each also with ``original_image`` (H, W, 3) uint8 RGB.

        Returns:
            One dict per image: ``proxy``, see :meth:`wsis.structures.ProxyMasks.to_instances`, and ``sem_seg`` where
            the method has a semantic side.

        Raises:
            ConfigError: in training mode, unless a subclass trains.
        """
        if self.training:
            raise ConfigError(f"MODEL.META_ARCHITECTURE {type(self).__name__} has nothing to train")
        with torch.no_grad():
            seeds = self.propose(batched_inputs)
        refine = self.refiner()
        results = []
        for inputs, seed in zip(batched_inputs, seeds, strict=True):
            if self.needs_void:
                size = seed.height, seed.width
                seed.void = [encode_box(box, *size) for box in inputs.get("crowd_boxes", ())]
            masks = refine(seed, inputs["original_image"])
            result: dict[str, Any] = {"proxy": masks.to_instances()}
            if masks.sem_seg:
                result["sem_seg"] = masks.sem_seg
            results.append(result)
        return results


def is_teacher(cfg: CfgNode) -> bool:
    """Whether ``MODEL.META_ARCHITECTURE`` makes masks from boxes.

    Raises:
        ConfigError: no meta-architecture has this name.
    """
    return issubclass(method_of(cfg), Teacher)


def check_boxes_allowed(cfg: CfgNode) -> None:
    """Checks that a teacher may see boxes.

    Raises:
        ConfigError: ``WSIS.SUPERVISION image`` keeps them from it.
    """
    if cfg.WSIS.SUPERVISION == "image":
        raise ConfigError(
            f"WSIS.SUPERVISION: found 'image', expected box: {cfg.MODEL.META_ARCHITECTURE} makes masks of boxes"
        )


def seed_from_inputs(inputs: dict[str, Any], maps: dict[str, np.ndarray] | None = None) -> Seed:
    """The seed of one image of a batch, without or with the method's maps."""
    instances = inputs["instances"]
    return Seed(
        image_id=inputs["image_id"],
        file_name=inputs["file_name"],
        height=inputs["height"],
        width=inputs["width"],
        boxes=np.asarray(instances.original_boxes, dtype=np.float32).reshape(-1, 4),
        classes=np.asarray(instances.gt_classes, dtype=np.int64),
        annotation_ids=tuple(int(i) for i in instances.annotation_ids),
        maps=maps or {},
    )
