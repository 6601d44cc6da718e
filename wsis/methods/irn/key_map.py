"""Weights of IRNet's release under the names of our network."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from wsis.errors import ConfigError
from wsis.modeling.backbones.resnet_atrous import from_torchvision_resnet
from wsis.modeling.weight_names import register_weight_names

LEVELS = 5
_LAYERS = {
    **{f"fc_edge{i + 1}": f"edge_levels.{i}" for i in range(LEVELS)},
    "fc_edge6": "edge",
    **{f"fc_dp{i + 1}": f"displacement_levels.{i}" for i in range(LEVELS)},
    "fc_dp6": "coarse",
    "fc_dp7": "displacement",
    "mean_shift": "mean_shift",
}
_NAME = re.compile(r"(?:.*\.)?(fc_(?:edge|dp)\d|mean_shift)\.(.+)")
_TRUNK = re.compile(r"(?:.*\.)?resnet50\.(.+)")


def is_irnet(weights: Mapping[str, object]) -> bool:
    """Whether these are weights of the release."""
    return any(name.endswith("fc_edge6.weight") for name in weights)


@register_weight_names(is_irnet)
def from_irnet(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under the names of :class:`wsis.methods.irn.IRN` on "build_resnet_stride16_backbone".

    What else the file holds is dropped.

    Raises:
        ConfigError: the trunk is missing.
    """
    out = {}
    for name, value in weights.items():
        if found := _NAME.fullmatch(name):
            out[f"head.{_LAYERS[found[1]]}.{found[2]}"] = torch.as_tensor(value)
        elif (found := _TRUNK.fullmatch(name)) and (ours := from_torchvision_resnet(found[1])):
            out[f"backbone.{ours}"] = torch.as_tensor(value)
    if "backbone.stem.conv1.weight" not in out:
        raise ConfigError("weights of IRNet: found no layer below 'resnet50.', expected its trunk")
    return out
