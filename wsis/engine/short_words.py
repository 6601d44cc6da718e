"""Short words for one's own data: ``--json boxes.json --images images`` in place of ``DATASETS.CUSTOM`` and its kin."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from wsis.data.registration import is_taken
from wsis.errors import ConfigError

_NEEDS = {
    "images": ("json", "proxy", "val_json"),
    "name": ("json", "proxy"),
    "val_images": ("val_json",),
    "json": ("images",),
    "proxy": ("images",),
    "val_json": ("images", "val_images"),
}
"""Word to those of which it needs one."""


def given_path(text: str) -> str:
    """The type of a path on the command line: an empty one, as of a shell's unset variable, is not the present folder.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("found nothing, expected a path")
    return text


def output_path(text: str) -> Path:
    """The type of a tool's ``--output``, see :func:`given_path`.

    Raises:
        argparse.ArgumentTypeError: it is empty.
        ConfigError: a file that the command line names twice, and so an input.
    """
    path = Path(given_path(text))
    words = [word.partition("=")[2] if word[:2] == "--" else word for word in sys.argv[1:]]
    if path.is_file() and sum(os.path.realpath(w) == os.path.realpath(path) for w in words) > 1:
        raise ConfigError(f"{path}: would take the place of the input; name another output")
    return path


def named_folders(
    option: str, items: Sequence[str], bare: Collection[str] = (), place: str = "DIR"
) -> dict[str, str]:
    """``NAME=DIR`` each, or another ``place``, as name to it; "" for a name of ``bare``, which stands alone.

    Raises:
        ConfigError: another form, or a name twice.
    """
    folders: dict[str, str] = {}
    for item in items:
        name, _, folder = item.partition("=")
        if not name or not folder and item not in bare:
            alone = "".join(f" or {each}" for each in bare)
            raise ConfigError(f"{option}: found {item!r}, expected NAME={place}{alone}")
        if name in folders:
            raise ConfigError(f"{option}: the name {name!r} occurs twice")
        folders[name] = folder
    return folders


def add_short_words(parser: argparse.ArgumentParser, training: bool = False) -> None:
    """Adds ``--json``, ``--images``, ``--name``; for a training also ``--proxy``, ``--val-json``, ``--val-images``."""
    add = parser.add_argument_group("your own data, in place of DATASETS.CUSTOM").add_argument
    add("--json", type=given_path, metavar="JSON", help="COCO file, DATASETS.TRAIN")
    if training:
        add("--proxy", type=given_path, metavar="JSON", help="proxy masks, in place of --json")
    add("--images", type=given_path, metavar="DIR", help="folder of the images")
    add("--name", type=given_path, help="of the dataset (the file's, without .json)")
    if training:
        add("--val-json", type=given_path, metavar="JSON", help="COCO file, DATASETS.TEST")
        add("--val-images", type=given_path, metavar="DIR", help="its images (--images)")


def apply_short_words(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Sets the keys that the short words stand for; ``DATASETS.CUSTOM`` keeps what it has.

    Args:
        cfg: not frozen; changed in place.
        args: the words that the tool has, ``output_dir`` for its ``--output`` among them; and ``opts``.

    Raises:
        ConfigError: a word lacks another one, or contradicts another one or a key of ``opts``.
    """
    words = _given_words(args)
    given = args.opts[0::2]

    def say(word: str, key: str, value: Any) -> None:
        if key in given:
            raise ConfigError(
                f"{_option(word)}, {key}: found both, expected one of them: they say the same"
            )
        *nodes, leaf = key.split(".")
        setattr(reduce(getattr, nodes, cfg), leaf, value)

    def use(word: str, key: str, name: str, images: str) -> None:
        entry = [name, words[word], images]
        say(word, key, (name,))
        if entry not in cfg.DATASETS.CUSTOM:
            cfg.DATASETS.CUSTOM = [*cfg.DATASETS.CUSTOM, entry]

    trained = "proxy" if words["proxy"] else "json"
    name = ""
    if words[trained]:
        name = words["name"] or _free_name(words[trained])
        use(trained, "DATASETS.TRAIN", name, words["images"])
        if "DATASETS.TEST" not in given:  # builtin data of the config may not be here
            cfg.DATASETS.TEST = tuple(each for each in cfg.DATASETS.TEST if not is_taken(each))
    if words["proxy"]:
        say("proxy", "WSIS.SUPERVISION", "proxy")
    if words["val_json"]:
        images = words["val_images"] or words["images"]
        use("val_json", "DATASETS.TEST", _free_name(words["val_json"], name), images)
    if words["output_dir"]:
        say("output_dir", "OUTPUT_DIR", words["output_dir"])


def _given_words(args: argparse.Namespace) -> dict[str, Any]:
    """Each word and its value, None where it was not given.

    Raises:
        ConfigError: a word lacks another one, or contradicts it.
    """
    words = {word: getattr(args, word, None) for word in (*_NEEDS, "output_dir")}
    for word, needed in _NEEDS.items():
        if words[word] and not any(words[other] for other in needed):
            others = " or ".join(_option(other) for other in needed if hasattr(args, other))
            raise ConfigError(f"{_option(word)} {words[word]}: expected {others} with it")
    if words["json"] and words["proxy"]:
        raise ConfigError("--json, --proxy: found both, expected only what is to be trained on")
    return words


def _option(word: str) -> str:
    return "--output" if word == "output_dir" else f"--{word.replace('_', '-')}"


def _free_name(json_file: str, other: str = "") -> str:
    """What a dataset is called after its file, where no builtin one and not the other one has this name."""
    name = Path(json_file).stem
    return f"{name}_own" if name == other or is_taken(name) else name
