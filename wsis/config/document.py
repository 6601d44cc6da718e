"""``docs/config.md`` from the texts of the keys."""

from __future__ import annotations

from wsis.config.params import Key, keys_of, nodes
from wsis.errors import ConfigError

HEADER = """# Config keys

wsis adds these keys to [Detectron2's](https://detectron2.readthedocs.io/en/latest/modules/config.html) and those of
its project PointRend. Set them in a YAML file or as `KEY VALUE` on the command line of any tool. This page is made from
the texts in the code by `python tools/document_config.py`; a test keeps it current.
"""
SHARED = "Shared keys"


def sections() -> dict[str, list[Key]]:
    """Title to keys: the shared ones, then those of each method's room."""
    found: dict[str, list[Key]] = {SHARED: []}
    for path, kind in nodes():
        _, room, name, *_ = kind.__module__.split(".")
        found.setdefault(name if room == "methods" else SHARED, []).extend(keys_of(kind(), path))
    return {
        title: found[title] for title in sorted(found, key=lambda title: (title != SHARED, title))
    }


def document() -> str:
    """The page.

    Raises:
        ConfigError: a key has no text.
    """
    parts = [HEADER]
    for title, keys in sections().items():
        parts.append(f"## {title}\n\n| key | default | meaning |\n|---|---|---|")
        for name, default, text in keys:
            if not text:
                raise ConfigError(f"key {name} has no text under 'Attributes' of its class")
            parts.append(f"| `{name}` | `{default!r}` | {text} |")
        parts[-1] += "\n"
    return "\n".join(parts)
