"""Keys that have another name now."""

from __future__ import annotations

from collections.abc import Iterable

from wsis.errors import ConfigError

RENAMED: dict[str, str] = {}
"""Old name to new name, of keys and of whole nodes."""


def refuse_renamed(where: str, keys: Iterable[str]) -> None:
    """Looks for keys that were renamed, or lie below a node that was.

    Raises:
        ConfigError: one is there; begins with ``where``.
    """
    for key in keys:
        for old in sorted(RENAMED, key=len, reverse=True):
            if key == old or key.startswith(f"{old}."):
                new = RENAMED[old] + key.removeprefix(old)
                raise ConfigError(f"{where}: no such key {key}: it is now {new}")
