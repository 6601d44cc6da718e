"""A dataclass as a node of the config: default, text, rule and use of a key stand in one place.

    @node("MODEL.BBAM")
    @dataclass(frozen=True)
    class BBAMParams:
        steps: int = key(300, at_least(1))
        top_crf: TopCRFParams = part(TopCRFParams(), "TOP_CRF")

adds ``MODEL.BBAM.STEPS``, and what :class:`TopCRFParams` has below ``MODEL.BBAM.TOP_CRF``, to
:func:`wsis.config.get_cfg`, and the sentences under "Attributes" in the docstrings of both to ``docs/config.md``.
``read(cfg, BBAMParams)`` checks the values and returns them. The dataclass can be built by itself, too; nothing is
checked then.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, field, fields, replace
from functools import reduce
from typing import Any, NamedTuple, TypeVar

from detectron2.config import CfgNode

from wsis.config.rules import Rule
from wsis.errors import ConfigError

T = TypeVar("T")
REQUIRED: Any = MISSING
"""Default of a key whose value each :func:`part` gives."""
_NODES: dict[type, str] = {}


class Key(NamedTuple):
    """One key of the config.

    Attributes:
        name: in full.
        default: a list where the dataclass has a tuple.
        text: whole sentences for the docs.
    """

    name: str
    default: Any
    text: str


def key(default: T, rule: Rule | None = None, name: str | None = None) -> T:
    """A field that is a key; what it means is said under "Attributes" of its class.

    Args:
        default: a tuple becomes a list in the config.
        rule: what values it may have.
        name: of the key; None = the field's in capitals.
    """
    return field(default=default, metadata={"rule": rule, "name": name})


def part(default: T, name: str = "", text: str = "") -> T:
    """A field that is a dataclass with keys of its own.

    Args:
        default: an instance, from which its keys have their defaults.
        name: of the node below this one that has the keys; "" = this one has them.
        text: a sentence that follows the text of each of its keys.
    """
    return field(default=default, metadata={"part": name, "text": text})


def node(path: str) -> Callable[[type[T]], type[T]]:
    """Decorator: the dataclass's keys belong to this node, "" = the config itself; several may share one."""

    def register(kind: type[T]) -> type[T]:
        _NODES[kind] = path
        return kind

    return register


def nodes() -> list[tuple[str, type]]:
    """Path and dataclass of all nodes, sorted."""
    return sorted(
        ((path, kind) for kind, path in _NODES.items()), key=lambda n: (n[0], n[1].__name__)
    )


def keys_of(params: Any, path: str, more: str = "") -> Iterator[Key]:
    """The keys of a dataclass.

    Args:
        params: an instance with the defaults.
        path: of its node.
        more: follows the text of each.
    """
    texts = _texts(type(params))
    for each, name, value in _fields(params, path):
        if "part" in each.metadata:
            yield from keys_of(value, name, each.metadata["text"])
        else:
            default = list(value) if isinstance(value, tuple) else value
            yield Key(name, default, f"{texts.get(each.name, '')} {more}".strip())


def _texts(kind: type) -> dict[str, str]:
    """What the docstring of a class says under "Attributes"."""
    _, _, block = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", block, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def add_keys(cfg: CfgNode) -> None:
    """Adds all keys, and the nodes that they need, to a config in place."""
    for path, kind in nodes():
        for each in keys_of(kind(), path):
            *parents, name = each.name.split(".")
            below = cfg
            for parent in parents:
                if parent not in below:
                    below[parent] = CfgNode()
                below = below[parent]
            below[name] = each.default


def read(cfg: CfgNode, kind: type[T]) -> T:
    """What the config says, checked.

    Args:
        cfg: of the run.
        kind: a dataclass with :func:`node`.

    Raises:
        ConfigError: the first value out of its range.
    """
    params = _read(cfg, kind(), _NODES[kind])
    check(params)
    return params


def check(params: Any, path: str | None = None) -> None:
    """Checks a dataclass by the rules of its keys.

    Args:
        params: the instance.
        path: of its node; None = as its :func:`node` says.

    Raises:
        ConfigError: the first value out of its range.
    """
    for each, name, value in _fields(params, _NODES[type(params)] if path is None else path):
        rule = each.metadata.get("rule")
        if "part" in each.metadata:
            check(value, name)
        elif rule is not None and not rule.holds(value):
            found = list(value) if isinstance(value, tuple) else value
            raise ConfigError(f"{name}: found {found!r}, expected {rule.expected}")


def _read(cfg: CfgNode, params: T, path: str) -> T:
    values = {}
    for each, name, value in _fields(params, path):
        if "part" in each.metadata:
            values[each.name] = _read(cfg, value, name)
        else:
            found = reduce(CfgNode.__getitem__, name.split("."), cfg)
            values[each.name] = tuple(found) if isinstance(found, list) else found
    return replace(params, **values)  # type: ignore[type-var]  # a dataclass


def _fields(params: Any, path: str) -> Iterator[tuple[Field[Any], str, Any]]:
    """The fields that are keys or parts, with their full name and their value."""
    for each in fields(params):
        about = each.metadata
        if about:
            own = about["part"] if "part" in about else about["name"] or each.name.upper()
            yield each, f"{path}.{own}".strip("."), getattr(params, each.name)
