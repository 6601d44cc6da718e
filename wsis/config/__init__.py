"""Detectron2's config with the keys of wsis and of every method, loaded safely and strictly."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.projects.point_rend import add_pointrend_config

from wsis.config import defaults as _defaults  # noqa: F401  # registration
from wsis.config.params import add_keys
from wsis.config.renamed import refuse_renamed
from wsis.config.shipped import find_config
from wsis.errors import ConfigError

_MISMATCH = re.compile(
    r"Type mismatch \(<class '(.*?)'> vs\. <class '(.*?)'>\) with values \(.* vs\. (.*)\) for config key: (\S+)$"
)
"""How yacs tells a value of another type."""
_KINDS = {
    "tuple": "a tuple, such as \"('one',)\" on the command line and [one] in YAML",
    "list": "a list, such as \"['one']\" on the command line and [one] in YAML",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "detectron2.config.config.CfgNode": "keys below it",
}


def stock_cfg() -> CfgNode:
    """Detectron2's default config with the model keys of its project PointRend."""
    cfg = get_detectron2_cfg()
    theirs = cfg.clone()
    add_pointrend_config(theirs)  # its keys of INPUT are not heeded here
    cfg.MODEL = theirs.MODEL
    return cfg


def get_cfg() -> CfgNode:
    """:func:`stock_cfg` plus the keys of wsis and of all methods."""
    cfg = stock_cfg()
    add_keys(cfg)
    return cfg


def load_cfg(config_file: str | os.PathLike[str] | None, opts: Sequence[str] = ()) -> CfgNode:
    """A config from a YAML file and ``KEY VALUE`` pairs.

    Args:
        config_file: YAML with optional ``_BASE_``, or the name of a config of wsis; None for the defaults. Never runs
            code from the file.
        opts: keys and values in turn, as on the command line.

    Returns:
        The config, not frozen.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or a value does not fit; names it.
    """
    cfg = get_cfg()
    if config_file is not None:
        path = find_config(config_file)
        try:
            values = flatten(CfgNode.load_yaml_with_base(path))
            refuse_renamed(path, values)
            with _whole_numbers_too(cfg, values):
                cfg.merge_from_file(path, allow_unsafe=False)
        except OSError as error:
            raise ConfigError(
                f"{error.filename or path}: cannot be read ({error.strerror})"
            ) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not plain YAML ({' '.join(str(error).split())})") from error
        except RecursionError as error:
            raise ConfigError(
                f"{path}: nested too deep, or its _BASE_ leads back to itself"
            ) from error
        except (KeyError, ValueError, AssertionError, AttributeError, TypeError) as error:
            raise ConfigError(f"{path}: {_explain(error, cfg)}") from error
    for key in opts[0::2]:
        if key.startswith("--"):
            raise ConfigError(f"command line: option {key} must come before the first KEY VALUE")
    if len(opts) % 2:
        raise ConfigError(f"command line: {opts[-1]!r} has no value; expected pairs of KEY VALUE")
    for key, value in zip(opts[0::2], opts[1::2], strict=True):
        refuse_renamed(f"command line: {key}", [key])
        try:
            with _whole_numbers_too(cfg, {key: CfgNode._decode_cfg_value(value)}):
                cfg.merge_from_list([key, value])
        except (KeyError, ValueError, AssertionError, AttributeError, TypeError) as error:
            raise ConfigError(f"command line: {key}: {_explain(error, cfg, key)}") from error
    return cfg


@contextlib.contextmanager
def _whole_numbers_too(cfg: CfgNode, values: Mapping[str, object]) -> Iterator[None]:
    """Lets whole numbers be merged where a key has a float, which yacs refuses.

    Args:
        cfg: to merge into.
        values: that will be merged, by key.
    """
    known = flatten(cfg)
    whole = (key for key, v in values.items() if type(v) is int and abs(v) < 2**53)
    keys = [key for key in whole if isinstance(known.get(key), float)]
    nodes = [(reduce(getitem, key.split(".")[:-1], cfg), key.split(".")[-1]) for key in keys]
    for node, name in nodes:
        node[name] = 0
    yield
    for node, name in nodes:
        node[name] = float(node[name])


def _explain(error: Exception, cfg: CfgNode, key: str | None = None) -> str:
    """One line for what yacs says in several ways, with the nearest existing key."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    if isinstance(error, KeyError | AssertionError):
        if key is None:
            key = text.rsplit(" ", 1)[-1].strip("'")
        close = difflib.get_close_matches(key, flatten(cfg), n=1)
        text = f"no such key {key}" + (f"; did you mean {close[0]}?" if close else "")
    mismatch = _MISMATCH.match(text)
    if mismatch:
        expected, found, value, name = mismatch.groups()
        value = value if len(value) <= 80 else value[:77] + "..."
        text = f"found {value} ({found}), expected {_KINDS.get(expected, expected)}"
        text = text if key else f"{name}: {text}"
    return text


def flatten(cfg: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """The config as one level: ``{"MODEL.MASK_ON": False, ...}``, in the order of the keys."""
    flat: dict[str, object] = {}
    for key, value in cfg.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


__all__ = ["CfgNode", "find_config", "flatten", "get_cfg", "load_cfg", "stock_cfg"]
