"""The head of stage 3 in weights of BANA's original release (spec 3); its backbone and classifier are stage 1's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

_BACKBONE = re.compile(r"(^|\.)(layer[1-5]|conv[1-5]_[1-3]|fc[67])\.")


def from_original_head(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The dilated branches of DeepLab-V2: what 3x3 convolutions there are outside of the backbone, in the file's order,
    which is that of the rates.

    Args:
        weights: of the original release; DeepLab-V1 has no branches.

    Returns:
        Names of :class:`wsis.layers.deeplab.AtrousSum` in ``BANASegmentor``.
    """
    values = [torch.as_tensor(v) for name, v in weights.items() if not _BACKBONE.search(name)]
    branches = [value for value in values if value.ndim == 4 and value.shape[2:] == (3, 3)]
    return {f"head.branches.{i}.weight": branch for i, branch in enumerate(branches)}
