"""Modules that training leaves untouched (``WSIS.FREEZE``)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from wsis.errors import ConfigError
from wsis.layers.norms import freeze


def freeze_modules(model: nn.Module, prefixes: Sequence[str]) -> int:
    """Freezes modules: no gradients, and batch norms keep their statistics.

    Where everything below a layer is frozen, no gradient passes it, so that training the mask head alone is much
    cheaper than training all.

    Args:
        model: changed in place; frozen batch norms are replaced, so call it before the optimizer is built.
        prefixes: names of modules, such as "backbone" or "roi_heads.box_head".

    Returns:
        The number of parameter tensors that were frozen here.

    Raises:
        ConfigError: a name is not a module's, or nothing is left to train.
    """
    count = 0
    for prefix in prefixes:
        if not isinstance(prefix, str) or not prefix or prefix not in dict(model.named_modules()):
            known = ", ".join(name for name, _ in model.named_children())
            raise ConfigError(
                f"WSIS.FREEZE: the model has no module {prefix!r}; expected one of {known}, or one inside them"
            )
        module = model.get_submodule(prefix)
        count += sum(parameter.requires_grad for parameter in module.parameters())
        parent, _, name = prefix.rpartition(".")
        setattr(model.get_submodule(parent), name, freeze(module))
    if prefixes and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"WSIS.FREEZE: {list(prefixes)} leaves nothing to train")
    return count
