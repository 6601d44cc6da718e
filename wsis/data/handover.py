"""What one process has read, for those that it starts: arrays lie in a file that all of them map into their memory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

_ARRAYS, _REST = "arrays", "rest"
_ALIGNMENT = 64


def write_shared(value: Any, folder: Path) -> None:
    """Writes a value into a folder of its own, which only this user can write to.

    Args:
        value: picklable.
        folder: exists.
    """
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, 5, buffer_callback=buffers.append)
    spans = []
    with (folder / _ARRAYS).open("wb") as file:
        for buffer in buffers:
            start = file.tell()
            spans.append((start, start + file.write(buffer.raw())))
            file.write(bytes(-file.tell() % _ALIGNMENT))
        file.write(b"\0")  # an empty file cannot be mapped
    (folder / _REST).write_bytes(pickle.dumps((rest, spans)))


def read_shared(folder: Path) -> Any:
    """The value of :func:`write_shared`. Its arrays are read-only and take no memory of their own."""
    rest, spans = pickle.loads((folder / _REST).read_bytes())  # noqa: S301  # our own bytes
    memory = np.memmap(folder / _ARRAYS, mode="r")
    return pickle.loads(rest, buffers=[memory[a:b] for a, b in spans])  # noqa: S301
