"""MATLAB 5 files, as SBD and MCG publish them.

SciPy crashes on some damaged files (an unknown type of data is an index beyond its table), or asks for as many
cells as a damaged header says: :func:`check_elements` walks through a file first.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from wsis.errors import DataError

Result = TypeVar("Result")
_ERRORS = (
    MatReadError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
"""What SciPy raises on files that are damaged or of another kind, and what looking into them may."""

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_DATA_TYPES = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18))
"""Of numbers and text."""
_CELL, _STRUCT, _OBJECT, _SPARSE, _NUMBERS = 1, 2, 3, 5, (4, *range(6, 16))
_HOLDERS = (_CELL, _STRUCT, _OBJECT)
"""Classes of variables that hold variables."""
_OWN_PARTS = {_CELL: 3, _STRUCT: 5, _OBJECT: 6, _SPARSE: 6, **dict.fromkeys(_NUMBERS, 4)}
"""Elements of a variable of each class, before those that it holds; complex numbers have one more."""
_COMPLEX = 0x800
_DEEPEST = 16
_LARGEST = 1 << 30
"""Bytes of an element after decompression."""


def read_mat(
    path: str | os.PathLike[str],
    variables: Sequence[str],
    read: Callable[[dict[str, Any]], Result],
    expected: str,
) -> Result:
    """What a MATLAB file holds.

    Args:
        path: of the file.
        variables: the ones to load.
        read: makes the result of the file's variables.
        expected: words for the message, what the file should be.

    Raises:
        DataError: the file is missing, unreadable, or ``read`` finds it of another form.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
        check_elements(content)
        return read(loadmat(io.BytesIO(content), variable_names=list(variables)))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except _ERRORS as error:
        detail = f" ({error})" if str(error) else ""
        raise DataError(f"{path}: cannot be read, expected {expected}{detail}") from error


def check_elements(content: bytes) -> None:
    """Raises ValueError, struct.error or zlib.error if an element of a MATLAB 5 file is damaged or of no known type."""
    if len(content) < _HEADER:
        raise ValueError("the header is not whole")
    order = "<" if content[126:128] == b"IM" else ">"
    for kind, body in _elements(content[_HEADER:], order, compressed=True):
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            whole = stream.decompress(body, _LARGEST)
            inner = list(_elements(whole, order))
            if stream.unconsumed_tail or len(inner) != 1:
                raise ValueError("a compressed variable is not one element")
            kind, body = inner[0]
        if kind != _MATRIX:
            raise ValueError(f"data of type {kind} where a variable should be")
        _check_matrix(body, order, 1)


def _elements(content: bytes, order: str, compressed: bool = False) -> Iterator[tuple[int, bytes]]:
    """Types and bodies of the elements that stand one behind the other."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # a small element: size and type in one word, the body in the other
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
            whole = size <= 4
        else:
            start, step = at + 8, 8 + (size if kind == _COMPRESSED else size + -size % 8)
            whole = start + size <= len(content)
        if not whole:
            raise ValueError("an element is not whole")
        if kind not in _DATA_TYPES and kind != _MATRIX and not (compressed and kind == _COMPRESSED):
            raise ValueError(f"data of unknown type {kind}")
        yield kind, content[start : start + size]
        at += step


def _check_matrix(body: bytes, order: str, depth: int) -> None:
    """A variable, and what it holds: flags, sizes and name, then numbers, or in cells and structs variables."""
    parts = list(_elements(body, order))
    if not parts:  # an empty one
        return
    if len(parts) < 3 or len(parts[0][1]) != 8 or depth > _DEEPEST:
        raise ValueError("a variable of no known form")
    (word,) = struct.unpack_from(f"{order}I", parts[0][1])
    matrix_class, is_complex = word & 0xFF, bool(word & _COMPLEX)
    if matrix_class not in _OWN_PARTS:
        raise ValueError(f"a variable of unknown class {matrix_class}")
    own = _OWN_PARTS[matrix_class]
    if matrix_class in _HOLDERS:
        number = math.prod(struct.unpack(f"{order}{len(parts[1][1]) // 4}i", parts[1][1]))
        if matrix_class != _CELL and len(parts) >= own:
            (width,) = struct.unpack(f"{order}i", parts[own - 2][1])
            number *= len(parts[own - 1][1]) // width
    else:
        own, number = own + is_complex, 0
    kinds = [kind for kind, _ in parts]
    if len(parts) != own + number or _MATRIX in kinds[:own] or kinds[own:] != [_MATRIX] * number:
        raise ValueError("a variable's parts are not those of its class")
    for _, inner in parts[own:]:
        _check_matrix(inner, order, depth + 1)
