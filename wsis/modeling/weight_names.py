"""Weights of other releases under the names of our modules: methods register the maps, the checkpointer uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

IsForeign = Callable[[Mapping[str, Any]], bool]
Translate = Callable[[Mapping[str, Any]], dict[str, Any]]

_TRANSLATIONS: list[tuple[IsForeign, Translate]] = []


def register_weight_names(is_foreign: IsForeign) -> Callable[[Translate], Translate]:
    """Decorator of a function that returns weights under our names.

    Args:
        is_foreign: whether weights, name to tensor, have the names that the function translates.
    """

    def register(translate: Translate) -> Translate:
        _TRANSLATIONS.append((is_foreign, translate))
        return translate

    return register


def own_names(module: nn.Module, weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights that a module has under the very same names."""
    return {name: weights[name] for name in module.state_dict() if name in weights}


def with_our_names(weights: dict[str, Any]) -> dict[str, Any]:
    """The same weights, translated if they are of a release that a method knows.

    Raises:
        ConfigError: they are, and something of it is missing.
    """
    for is_foreign, translate in _TRANSLATIONS:
        if is_foreign(weights):
            return translate(weights)
    return weights
