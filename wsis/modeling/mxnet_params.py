"""Reads MXNet's ``.params`` files, a list of named arrays, as data and without MXNet."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

LIST = 0x112
"""Begins a list of arrays."""
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
"""Begin an array of a later form; the oldest one begins with its number of axes."""
DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")
DENSE = 0
MAX_AXES = 32


class _Reader:
    """Numbers from bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = memoryview(data), 0

    def take(self, size: int) -> memoryview:
        """So many bytes.

        Raises:
            ValueError: there are not so many left.
        """
        left = len(self.data) - self.place
        if size > left:
            raise ValueError(f"cut off: {size} bytes wanted at byte {self.place}, {left} are left")
        self.place += size
        return self.data[self.place - size : self.place]

    def numbers(self, form: str) -> tuple[int, ...]:
        """As :func:`struct.unpack` reads a form, least byte first."""
        form = f"<{form}"
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def array(self) -> np.ndarray:
        """The next array.

        Raises:
            ValueError: it is sparse, or not an array at all.
        """
        (begin,) = self.numbers("I")
        of_axis = "I"
        axes = begin
        if begin in (V1, V2, V3):
            if begin != V1 and self.numbers("i")[0] != DENSE:
                raise ValueError("a sparse array, expected dense ones")
            (axes,) = self.numbers("I")
            of_axis = "q"
        if axes > MAX_AXES:
            raise ValueError(f"not an array at byte {self.place}")
        shape = self.numbers(f"{axes}{of_axis}")
        if axes == 0 and begin != V3:  # nothing follows
            return np.zeros(0, dtype=np.float32)
        _, _, kind = self.numbers("iii")  # the first two name the device that it was on
        if not 0 <= kind < len(DTYPES) or min(shape, default=0) < 0:
            raise ValueError(f"not an array at byte {self.place}")
        dtype = np.dtype(DTYPES[kind])
        size = dtype.itemsize
        for length in shape:  # not in NumPy's integers, which wrap
            size *= length
        return np.frombuffer(self.take(size), dtype=dtype).reshape(shape).copy()


def read_params(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, ``arg:<name>`` and ``aux:<name>``.

    Raises:
        ValueError: it is none of MXNet's, incomplete, or holds something else than dense named arrays.
        OSError: it cannot be read.
    """
    reader = _Reader(Path(path).read_bytes())
    begin, _, number = reader.numbers("QQQ")
    if begin != LIST:
        raise ValueError("not a list of arrays of MXNet")
    arrays = [reader.array() for _ in range(number)]
    (named,) = reader.numbers("Q")
    if named != number:
        raise ValueError(f"{number} arrays and {named} names")
    names = [bytes(reader.take(reader.numbers("Q")[0])).decode("utf-8") for _ in range(named)]
    return dict(zip(names, arrays, strict=True))
