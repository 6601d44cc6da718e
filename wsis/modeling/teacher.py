"""The protocol that every teacher follows: masks, labels or score maps of one image, in two steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from wsis.data.build import Mapper
from wsis.data.mapper import TagDatasetMapper, TeacherDatasetMapper
from wsis.errors import ConfigError
from wsis.modeling.method import Method, Result, method_of
from wsis.structures import ImageMaps, ProxyMasks, Seed
from wsis.structures.rle import encode_box

Refiner = Callable[[Seed, np.ndarray], ProxyMasks]
"""``refine(seed, image)``: image is the original one, (H, W, 3) uint8 RGB."""
MapRefiner = Callable[[Seed, np.ndarray], ImageMaps]
"""The same of a teacher that makes no instances."""


class Maker(Method):
    """Makes what a later stage learns from: the common part of :class:`Teacher` and :class:`TagTeacher`, of which every
    method is one.

    The work is split so that a GPU never waits for the CPU: :meth:`propose` is the network's part, and what
    :meth:`refiner` returns is run by CPU workers. In eval mode calling the model does both.

    Attributes:
        needs_image: whether :meth:`propose` looks at ``image``; if not, the image is only decoded by the refiner.
        needs_void: whether the refiner looks at :attr:`Seed.void`, the regions that it was not asked about.
        result_keys: prefixes of the config keys that bear on the result, such as ("MODEL.GRABCUT",). They identify a
            run and are written to the proxy-mask file or manifest.
        location_keys: those among them that only say where something lies, which is not written.
        inputs_sha256: SHA-256, in hex, of the files beside weights and source that bear on the result, by config key.
        result_packages: modules beyond those that every teacher uses whose version bears on the result.
        label_names: the semantic maps that it makes of each image.
        map_names: the score maps that it makes of each image.
    """

    needs_image: bool = True
    needs_void: bool = False
    result_keys: tuple[str, ...] = ("MODEL", "INPUT")
    location_keys: tuple[str, ...] = ()
    inputs_sha256: Mapping[str, str] = MappingProxyType({})
    result_packages: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    map_names: tuple[str, ...] = ()
    _mapper: type[TeacherDatasetMapper]

    @classmethod
    def check_requirements(cls) -> None:
        """Raises ConfigError where an optional package that this teacher needs is missing."""

    @classmethod
    def check_supervision(cls, cfg: CfgNode) -> None:
        """Raises ConfigError where ``WSIS.SUPERVISION`` keeps from it what it needs."""

    @classmethod
    def maps_needed(cls, cfg: CfgNode) -> Sequence[str]:
        """Names of the score maps of an earlier stage, as in ``DATASETS.CUSTOM_SCORE_MAPS``, that it reads. In a
        generation they are checked before any work, are part of what the result was made with, and come with the inputs
        of :meth:`propose`.
        """
        return ()

    @classmethod
    def test_mapper(cls, cfg: CfgNode) -> Mapper:
        """With the boxes or tags, and the original image for the refiner."""
        cls.check_supervision(cfg)
        return cls._mapper(cfg, keep_original=True)

    def generation_mapper(self, cfg: CfgNode) -> Mapper:
        """From the dict of an image to one input of :meth:`propose`, with no more than it looks at."""
        return self._mapper(
            cfg, needs_image=self.needs_image, keep_original=self.needs_original_image
        )

    @abstractmethod
    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """The network's part, under ``torch.no_grad()``; a teacher that needs gradients opens ``enable_grad`` itself.

        Args:
            batched_inputs: ``image`` (3, h, w) at network size in ``INPUT.FORMAT``, ``height``, ``width`` (original),
                ``file_name``, ``image_id``, with :attr:`needs_original_image` also ``original_image``; with
                :meth:`maps_needed` also ``score_maps``, name to :class:`wsis.structures.ScoreMaps`; and what the kind
                of teacher adds.

        Returns:
            One seed per image, see :func:`seed_from_inputs`.
        """

    @abstractmethod
    def refiner(self) -> Refiner | MapRefiner:
        """A picklable function without the model, to be run in another process."""

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Eval mode: both steps.

        Args:
            batched_inputs: see :meth:`propose`, each also with ``original_image`` (H, W, 3) uint8 RGB.

        Returns:
            One dict per image: ``proxy`` of what makes instances, see :meth:`wsis.structures.ProxyMasks.to_instances`;
            ``sem_seg`` and ``score_maps`` by name where the method makes them.

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
            made = refine(seed, inputs["original_image"])
            result: dict[str, Any] = {"sem_seg": made.sem_seg, "score_maps": made.score_maps}
            result = {name: maps for name, maps in result.items() if maps}
            if isinstance(made, ProxyMasks):
                result["proxy"] = made.to_instances()
            results.append(result)
        return results


class Teacher(Maker):
    """Turns an image and its boxes into one mask per box, and maybe labels and score maps.

    The inputs of :meth:`propose` are as :class:`wsis.data.mapper.TeacherDatasetMapper` makes them: with ``instances``
    that have ``gt_boxes`` in network pixels, ``original_boxes`` (N, 4) in original pixels, ``gt_classes``,
    ``annotation_ids``; where the image has crowds, their ``crowd_boxes`` (M, 4) in original pixels. An image without
    boxes does not come to it.
    """

    returns = "proxy"
    _mapper = TeacherDatasetMapper

    @classmethod
    def check_supervision(cls, cfg: CfgNode) -> None:
        """Checks that a teacher may see boxes.

        Raises:
            ConfigError: ``WSIS.SUPERVISION image`` keeps them from it.
        """
        if cfg.WSIS.SUPERVISION == "image":
            raise ConfigError(
                f"WSIS.SUPERVISION: found 'image', expected box: {cfg.MODEL.META_ARCHITECTURE} makes masks of boxes"
            )

    @abstractmethod
    def refiner(self) -> Refiner:
        """See :meth:`Maker.refiner`."""


class TagTeacher(Maker):
    """Turns an image and its tags into labels and score maps; no box ever reaches it, whatever ``WSIS.SUPERVISION`` is.

    The inputs of :meth:`propose` are as :class:`wsis.data.mapper.TagDatasetMapper` makes them: with ``tags``, the
    sorted contiguous classes that the image has.
    """

    returns: Result = "score_maps"
    _mapper = TagDatasetMapper

    @classmethod
    def needs_tags(cls, cfg: CfgNode) -> bool:
        """Whether it must be told the tags; if so, an image without any does not come to it in generation: its score
        maps have no class, and its labels are background.
        """
        return True

    @abstractmethod
    def refiner(self) -> MapRefiner:
        """See :meth:`Maker.refiner`."""


def is_maker(cfg: CfgNode) -> bool:
    """Whether ``MODEL.META_ARCHITECTURE`` makes masks, labels or score maps, of boxes or tags.

    Raises:
        ConfigError: no meta-architecture has this name.
    """
    return issubclass(method_of(cfg), Maker)


def is_teacher(cfg: CfgNode) -> bool:
    """Whether ``MODEL.META_ARCHITECTURE`` makes masks from boxes.

    Raises:
        ConfigError: no meta-architecture has this name.
    """
    return issubclass(method_of(cfg), Teacher)


def seed_from_inputs(inputs: dict[str, Any], maps: dict[str, np.ndarray] | None = None) -> Seed:
    """The seed of one image of a batch, with its boxes or tags, without or with the method's maps."""
    seed = Seed(
        image_id=inputs["image_id"],
        file_name=inputs["file_name"],
        height=inputs["height"],
        width=inputs["width"],
        maps=maps or {},
        tags=tuple(inputs.get("tags", ())),
    )
    if "instances" in inputs:
        instances = inputs["instances"]
        seed.boxes = np.asarray(instances.original_boxes, dtype=np.float32).reshape(-1, 4)
        seed.classes = np.asarray(instances.gt_classes, dtype=np.int64)
        seed.annotation_ids = tuple(int(i) for i in instances.annotation_ids)
    return seed
