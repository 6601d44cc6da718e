"""``docs/config.md`` from the comments that stand above the keys."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

from wsis.config import crf, flatten, get_cfg
from wsis.errors import ConfigError

_KEY = re.compile(r"^\s*(?:cfg|node)\.([A-Z0-9_.]+) = (?!CN\(\))")
_CRF_KEYS = re.compile(r"^\s*add_crf_keys\(cfg\.([A-Z0-9_.]+),")

HEADER = """# Config keys

wsis adds these keys to [Detectron2's](https://detectron2.readthedocs.io/en/latest/modules/config.html). Set them in a
YAML file or as `KEY VALUE` on the command line of any tool. This page is made from the comments in the code by
`python tools/document_config.py`; a test keeps it current.
"""


def key_comments(module: ModuleType) -> dict[str, str]:
    """The comment above each ``cfg.KEY = value`` of a module, and above each call of :func:`add_crf_keys`.

    Returns:
        Full key name to text, in the order of the file.

    Raises:
        ConfigError: a key has no comment.
    """
    comments: dict[str, str] = {}
    pending: list[str] = []
    source = re.sub(r"add_crf_keys\(\s+", "add_crf_keys(", inspect.getsource(module))
    for line in source.splitlines():
        text = line.strip()
        key, node = _KEY.match(line), _CRF_KEYS.match(line)
        if text.startswith("#"):
            pending.append(text.lstrip("# "))
            continue
        if (found := key or node) and not pending:
            name = f"{found[1]}.SPATIAL_WEIGHT" if node else found[1]
            raise ConfigError(f"{module.__name__}: key {name} has no comment")
        if key:
            comments[key[1]] = " ".join(pending)
        if node:
            shared = {**key_comments(crf), "SPATIAL_WEIGHT": " ".join(pending)}
            comments.update({f"{node[1]}.{name}": text for name, text in shared.items()})
        pending = []
    return comments


def document(modules: dict[str, ModuleType]) -> str:
    """The page.

    Args:
        modules: title of a section to the module that holds its keys.
    """
    defaults = flatten(get_cfg())
    parts = [HEADER]
    for title, module in modules.items():
        parts.append(f"## {title}\n\n| key | default | meaning |\n|---|---|---|")
        for key, comment in key_comments(module).items():
            text = comment.replace("|", "\\|")
            parts.append(f"| `{key}` | `{defaults[key]!r}` | {text} |")
        parts[-1] += "\n"
    return "\n".join(parts)
