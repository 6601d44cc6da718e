"""What a meta-architecture may tell the engine beyond its forward pass, in one class."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor, build_backbone
from torch import nn

from wsis.config.params import read
from wsis.data.build import Batches, Mapper, build_train_loader, check_training_data
from wsis.data.classes import brief
from wsis.data.mapper import WsisDatasetMapper
from wsis.errors import ConfigError

Result = Literal["proxy", "instances", "sem_seg", "score_maps", "tags"]
T = TypeVar("T")


class Method(nn.Module):
    """A meta-architecture of wsis. All that it may say beyond ``forward`` is here, with what holds if it says nothing:
    it trains as a detector does, on the images of ``DATASETS.TRAIN`` and with Detectron2's optimizer.

    A loader of one's own comes with the check of what it loads, which is called before any work, so that no mistake is
    found only after files were written.

    Attributes:
        returns: the main entry of what eval mode returns per image, from which the evaluator follows.
        class_free: its weights know no classes, so that those of any data do.
        needs_original_image: inputs in eval mode have ``original_image`` (H, W, 3) uint8 RGB.
        pixel_mean, pixel_std: (C, 1, 1), see :meth:`set_normalisation`.
    """

    returns: Result = "instances"
    class_free: bool = False
    needs_original_image: bool = False
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build_train_loader" in vars(cls) and "check_training_data" not in vars(cls):
            raise TypeError(f"{cls.__name__} has build_train_loader without check_training_data")

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """Endless batches of ``SOLVER.IMS_PER_BATCH`` samples over all processes; here a detector's.

        Args:
            cfg: after :func:`wsis.data.registration.prepare_datasets`.

        Raises:
            ConfigError, DataError: as :meth:`check_training_data`.
        """
        return build_train_loader(cfg)

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """Called before any work, and writes nothing.

        Raises:
            ConfigError, DataError: the loader could not be built, or not be read to its end.
        """
        check_training_data(cfg)

    @classmethod
    def test_mapper(cls, cfg: CfgNode) -> Mapper:
        """From the dict of an image to one input of eval mode; here without boxes."""
        return WsisDatasetMapper(cfg, is_train=False, keep_original=cls.needs_original_image)

    @classmethod
    def match_classes(cls, cfg: CfgNode, own: Sequence[str], known: Sequence[str]) -> None:
        """Called before a trained model is built. A model that can do with weights of other classes than the data have
        says so in its keys; here such weights do not fit.

        Args:
            cfg: changed in place.
            own: the classes of the data.
            known: the classes of the weights; empty where these do not say.

        Raises:
            ConfigError: the weights know too little.
        """
        missing = sorted({*own} - {*known})
        if known and missing:
            raise ConfigError(
                f"MODEL.WEIGHTS: {cfg.MODEL.WEIGHTS} was trained with the classes {brief(known)}, and so does not know "
                f"{brief(missing)} of the data; give the data's categories the names that the weights know, remove "
                "the others, or train on these data"
            )

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]] | None:
        """Groups of the SGD optimizer with ``params``, ``lr`` and ``weight_decay``; None = Detectron2's."""
        return None

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Values of each channel in ``INPUT.FORMAT``, kept out of checkpoints."""
        self.register_buffer("pixel_mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """(image - mean) / std of (..., C, h, w), on the model's device."""
        return (image.to(self.pixel_mean.device) - self.pixel_mean) / self.pixel_std

    @property
    def device(self) -> torch.device:
        """Where the parameters are; the CPU if there are none."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        return next(tensors, torch.empty(0)).device


def parts_from_config(cfg: CfgNode, kind: type[T]) -> dict[str, Any]:
    """What many constructors take: ``params`` of this kind, and by Detectron2's keys ``backbone``, ``pixel_mean`` and
    ``pixel_std``.

    Raises:
        ConfigError: a value out of its range.
    """
    params = read(cfg, kind)
    pixels = {"pixel_mean": cfg.MODEL.PIXEL_MEAN, "pixel_std": cfg.MODEL.PIXEL_STD}
    return {"params": params, "backbone": build_backbone(cfg), **pixels}


class StockDetector(Method):
    """Stands for meta-architectures of Detectron2 and of others, which return ``instances``."""


class StockSegmentor(Method):
    """Stands for Detectron2's ``SemanticSegmentor``."""

    returns = "sem_seg"


def method_of(cfg: CfgNode) -> type[Method]:
    """What ``MODEL.META_ARCHITECTURE`` tells the engine: the class itself, or what stands for a stock one.

    Raises:
        ConfigError: no meta-architecture has this name.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    known = dict(iter(META_ARCH_REGISTRY))
    if name not in known:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: found {name!r}, expected one of {', '.join(sorted(known))}"
        )
    kind = known[name]
    if isinstance(kind, type) and issubclass(kind, Method):
        return kind
    return StockSegmentor if kind is SemanticSegmentor else StockDetector
