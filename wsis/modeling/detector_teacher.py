"""A teacher around a Detectron2 detector, with the detector's own names of weights."""

from __future__ import annotations

from typing import Any, Self

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from wsis.errors import ConfigError
from wsis.modeling.teacher import Maker, Teacher


class DetectorTeacher(Teacher):
    """It has the detector's children, parameters and buffers under the detector's own names, so that checkpoints go
    both ways. In training mode it is the detector; what it makes of given boxes is up to the subclass.
    """

    detector: nn.Module

    def __init__(self, detector: nn.Module) -> None:
        """
        Args:
            detector: a Detectron2 detector.
        """
        super().__init__()
        # not a child: the detector and this module have the same children, each under one name
        self.__dict__["detector"] = detector
        self._parameters, self._buffers = detector._parameters, detector._buffers
        self._non_persistent_buffers_set = detector._non_persistent_buffers_set
        self._modules = detector._modules

    def train(self, mode: bool = True) -> Self:
        """Also switches the detector."""
        self.detector.train(mode)
        self.training = mode
        return self

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The detector's losses in training mode, else see :meth:`Teacher.forward`."""
        if self.training:
            return self.detector(batched_inputs)
        return super().forward(batched_inputs)


def named_detector(cfg: CfgNode, name: str, key: str) -> nn.Module:
    """A detector without weights.

    Args:
        cfg: that the detector reads.
        name: of its meta-architecture.
        key: of the config that has the name.

    Raises:
        ConfigError: no meta-architecture has this name, or it is a teacher.
    """
    known = {name: kind for name, kind in META_ARCH_REGISTRY if not _is_maker(kind)}
    if name not in known:
        raise ConfigError(f"{key}: found {name!r}, expected one of {', '.join(sorted(known))}")
    return known[name](cfg)


def _is_maker(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Maker)
