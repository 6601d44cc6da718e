"""JSON files of many objects, read piece by piece."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import chain
from typing import Any

from wsis.data.table import CHUNK

# without it files are read as a whole, which takes longer and more memory
msgspec: Any = importlib.import_module("msgspec") if find_spec("msgspec") else None


class UnfitError(ValueError):
    """A text that only Python's own parser takes, such as NaN, or that is no JSON."""


class JsonObjects(Iterable[dict[str, Any]]):
    """A list of objects, made anew each time that it is gone through.

    Args:
        pieces: the text of each.
    """

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return chain.from_iterable(self.chunks())

    def chunks(self) -> Iterator[list[dict[str, Any]]]:
        """Some objects at a time."""
        decoder = msgspec.json.Decoder(list[dict[str, Any]])
        for start in range(0, len(self.pieces), CHUNK):
            with _unfit():
                found = decoder.decode(b"[" + b",".join(self.pieces[start : start + CHUNK]) + b"]")
            yield found


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
    with _unfit(), without_collector():
        parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        pieces = msgspec.json.decode(parts.pop(key, b""), type=list[msgspec.Raw])
        out = {name: msgspec.json.decode(text) for name, text in parts.items()}
        return {**out, key: JsonObjects(pieces)}


@contextlib.contextmanager
def _unfit() -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UnfitError from error


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
