"""The baseline teachers as Detectron2 meta-architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config.params import read
from wsis.layers.box_shapes import filled_box, inscribed_ellipse
from wsis.layers.dense_crf import load_pydensecrf
from wsis.methods.baselines.config import BoxCRFParams, GrabCutParams
from wsis.methods.baselines.masks import box_crf, grabcut
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import Crop, ProxyMasks, Seed

BoxToMask = Callable[[np.ndarray, np.ndarray], Crop | None]


@dataclass(frozen=True)
class BoxByBox:
    """A refiner that makes each mask from the image and its box alone.

    Where ``make(image, box)`` finds nothing the inscribed ellipse stands in, as status ``fallback``.
    """

    make: BoxToMask

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`."""
        crops, status = [], []
        for box in seed.boxes:
            crop = self.make(image, box)
            status.append("ok" if crop is not None else "fallback")
            crops.append(crop or inscribed_ellipse(box, seed.height, seed.width))
        return ProxyMasks.from_crops(seed, crops, status=status)


def _fill(image: np.ndarray, box: np.ndarray) -> Crop:
    return filled_box(box, *image.shape[:2])


def _ellipse(image: np.ndarray, box: np.ndarray) -> Crop:
    return inscribed_ellipse(box, *image.shape[:2])


class BoxTeacher(Teacher):
    """A teacher without a network: the seed is the boxes, and the refiner does the work."""

    needs_image = False
    result_keys: tuple[str, ...] = ()
    rule: BoxToMask

    @configurable
    def __init__(self, *, make: BoxToMask) -> None:
        """
        Args:
            make: see :class:`BoxByBox`.
        """
        super().__init__()
        self.check_requirements()
        self.make = make

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Nothing to configure."""
        return {"make": cls.rule}

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`."""
        return [seed_from_inputs(inputs) for inputs in batched_inputs]

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return BoxByBox(self.make)


@META_ARCH_REGISTRY.register()
class FilledBox(BoxTeacher):
    """Every pixel of the box."""

    rule = staticmethod(_fill)


@META_ARCH_REGISTRY.register()
class InscribedEllipse(BoxTeacher):
    """The ellipse that touches the box's sides."""

    rule = staticmethod(_ellipse)


@META_ARCH_REGISTRY.register()
class GrabCut(BoxTeacher):
    """OpenCV's GrabCut in a window around each box; the inscribed ellipse where it finds nothing."""

    result_keys = ("MODEL.GRABCUT",)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.GRABCUT``.

        Raises:
            ConfigError: a value out of its range.
        """
        return {"make": partial(grabcut, **vars(read(cfg, GrabCutParams)))}


@META_ARCH_REGISTRY.register()
class BoxCRF(BoxTeacher):
    """A dense CRF on a constant prior in each box; the inscribed ellipse where nothing is left.

    Building it raises ConfigError where no dense CRF is installed.
    """

    result_keys = ("MODEL.BOX_CRF",)
    result_packages = ("pydensecrf",)

    @classmethod
    def check_requirements(cls) -> None:
        """See :meth:`Teacher.check_requirements`."""
        load_pydensecrf()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BOX_CRF``.

        Raises:
            ConfigError: a value out of its range.
        """
        return {"make": partial(box_crf, **vars(read(cfg, BoxCRFParams)))}
