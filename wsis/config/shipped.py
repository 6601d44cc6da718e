"""The configs that come with wsis, found by name from any folder."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from wsis.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[1] / "shipped" / "configs"
"""In a wheel a folder, in a checkout a link to the folder ``configs/``."""


def shipped_configs() -> list[str]:
    """Names of all, such as baselines/grabcut.yaml."""
    return sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("**/*.yaml"))


def find_config(name: str | os.PathLike[str]) -> str:
    """Path of a config.

    Args:
        name: of a file, or else of a config of wsis, such as baselines/grabcut.yaml or configs/baselines/grabcut.yaml.

    Raises:
        ConfigError: neither is there; names the nearest ones.
    """
    path = os.fspath(name)
    if os.path.isfile(path):
        return path
    inside = path.removeprefix("./").removeprefix("configs/")
    known = shipped_configs()
    if inside in known:
        return str(CONFIGS / inside)
    stem = Path(inside).stem
    close = [each for each in known if stem and os.path.basename(each).startswith(stem)]
    close += difflib.get_close_matches(inside, known, n=3, cutoff=0.7)
    hint = f"; did you mean {', '.join(list(dict.fromkeys(close))[:3])}?" if close else ""
    raise ConfigError(f"{path or 'an empty name'}: no such config file{hint}")
