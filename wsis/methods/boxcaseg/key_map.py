"""Weights of the original release, and ImageNet weights of HRNet, under the names of :class:`BoxCaseg`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsis.modeling.weight_names import register_weight_names

PREFIX = "network."
_WRAPPERS = ("module.", "model.")
_CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


def is_hrnet(weights: Mapping[str, object]) -> bool:
    """Whether these are weights of a plain HRNet, or of the original release, which has its names too."""
    names = {_unwrapped(name) for name in weights}
    return all(any(name.startswith(part) for name in names) for part in ("transition3.", "stage4."))


@register_weight_names(is_hrnet)
def from_hrnet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of :class:`wsis.methods.boxcaseg.meta_arch.BoxCaseg`; HRNet's classifier is left out.

    Args:
        weights: name to tensor, with or without ``module.`` and ``model.`` before each name.
    """
    names = ((_unwrapped(name), value) for name, value in weights.items())
    return {PREFIX + name: value for name, value in names if not name.startswith(_CLASSIFIER)}


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name
