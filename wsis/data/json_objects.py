"""JSON files of many objects, read piece by piece."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain
from typing import Any

# without it files are read as a whole, which takes longer and more memory
msgspec: Any = importlib.import_module("msgspec") if find_spec("msgspec") else None

PIECE = 1 << 17
"""About so many bytes of a list are read together."""
_COMMA = re.compile(rb"\}\s*,\s*\{")


class UnfitError(ValueError):
    """A text that only Python's own parser takes, such as NaN, or that is no JSON."""


class JsonObjects(Iterable[dict[str, Any]]):
    """A list of objects, made anew each time that it is gone through.

    Args:
        text: of the list.
    """

    def __init__(self, text: memoryview) -> None:
        self.text = text

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return chain.from_iterable(self.chunks())

    def chunks(self) -> Iterator[list[dict[str, Any]]]:
        """Some objects at a time. A comma between braces parts two objects of the list, and none within one or in a
        string, if all before it can be read.

        Raises:
            UnfitError: see :func:`parse_lazily`.
        """
        decoder = msgspec.json.Decoder(list[dict[str, Any]])
        start, size, end = 1, PIECE, len(self.text) - 1
        while start < end:
            comma = _COMMA.search(self.text, start + size)
            stop, after = (comma.start() + 1, comma.end() - 1) if comma else (end, end)
            try:
                found = decoder.decode(b"[" + self.text[start:stop] + b"]")
            except (msgspec.MsgspecError, RecursionError) as error:
                if comma is None:
                    raise UnfitError from error
                size *= 2
            else:
                if found:
                    yield found
                start, size = after, PIECE


def parse(content: bytes) -> Any:
    """What Python's parser makes of a text.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    with without_collector():
        return json.loads(content)


def parse_lazily(content: bytes, key: str) -> dict[str, Any]:
    """An object whose list under a key stays text until somebody goes through it.

    Args:
        content: of a JSON file.
        key: of a list of objects.

    Returns:
        What :func:`parse` returns, with :class:`JsonObjects` under the key.

    Raises:
        UnfitError: there is no such list, or another reader must decide.
    """
    if msgspec is None:
        raise UnfitError
    try:
        with without_collector():
            parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
            objects = memoryview(parts.pop(key, b""))
            out = {name: msgspec.json.decode(text) for name, text in parts.items()}
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UnfitError from error
    if objects[:1] != b"[":
        raise UnfitError
    return {**out, key: JsonObjects(objects)}


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Without looking for reference cycles, of which parsed texts have none: that would take most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
