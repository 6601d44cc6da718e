"""What ICAM of tags and ICAM of boxes have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from detectron2.config import CfgNode, configurable
from detectron2.modeling import Backbone
from torch import Tensor

from wsis.layers.deeplab import resize_scores
from wsis.methods.icam.config import CamParams
from wsis.methods.icam.losses import Maps
from wsis.methods.icam.network import CamNetwork
from wsis.modeling.method import Method, parts_from_config
from wsis.modeling.parameter_groups import parameter_groups


class HasCamParams(Protocol):
    """Parameters of a method of which some are the network's."""

    @property
    def cam(self) -> CamParams:
        """Of the network."""


class CamModel(Method):
    """A :class:`CamNetwork` and what it is made of.

    Attributes:
        params_type: of the method's parameters.
    """

    params_type: ClassVar[type[HasCamParams]]

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        params: Any,
    ) -> None:
        """
        Args:
            backbone: its last three maps are used.
            num_classes: C, background not included.
            pixel_mean, pixel_std: per channel, in ``INPUT.FORMAT``.
            params: of the network, its training and its maps.
        """
        super().__init__()
        cam: CamParams = params.cam
        self.network = CamNetwork(backbone, num_classes, cam.channels, cam.dropout, cam.gain)
        self.num_classes, self.params = num_classes, params
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads the method's keys, ``MODEL.ROI_HEADS.NUM_CLASSES`` and Detectron2's keys of the backbone.

        Raises:
            ConfigError: a value out of its range.
        """
        number = {"num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}
        return parts_from_config(cfg, cls.params_type) | number

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Backbone and new layers, weights and biases, see :mod:`wsis.modeling.parameter_groups`."""
        factors = self.params.cam.lr_factors
        return parameter_groups(self, self.network.backbone, cfg.SOLVER, factors)

    def both_sizes(self, images: Tensor) -> tuple[Maps, Maps]:
        """Maps of normalised images (N, 3, H, W) and of their smaller copies, as logits."""
        height, width = (max(1, int(self.params.cam.second_scale * n)) for n in images.shape[2:])
        return self.network(images), self.network(resize_scores(images, (height, width)))
