from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from wsis.data.mat_files import check_elements, read_mat
from wsis.errors import DataError


def cells(*values: Any) -> np.ndarray:
    out = np.empty((len(values), 1), dtype=object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out


FORMS = {
    "numbers": np.arange(6, dtype=np.uint16).reshape(2, 3),
    "complex": np.ones((2, 2)) * 1j,
    "sparse": csc_matrix(np.eye(3)),
    "complex sparse": csc_matrix(np.eye(3) * 1j),
    "text": "hello",
    "logical": np.array([[True]]),
    "empty": np.zeros((0, 3)),
    "cells": cells([1, 2], "a", csc_matrix((2, 2))),
    "no cells": np.empty((0, 0), dtype=object),
    "struct": {"a": 1, "b": {"c": cells([1])}},
    "structs": np.array([(1, 2), (3, 4)], dtype=[("a", object), ("b", object)]),
}


def content(value: Any, compress: bool = False) -> bytes:
    stream = io.BytesIO()
    savemat(stream, {"x": value, "y": 1}, do_compression=compress)
    return stream.getvalue()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_whole_files_are_accepted(form: str, compress: bool) -> None:
    check_elements(content(FORMS[form], compress))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compress", [False, True])
def test_cut_files_are_not(form: str, compress: bool) -> None:
    whole = content(FORMS[form], compress)
    # between its two variables a file may end
    ends = {128, 128 + 8 + int.from_bytes(whole[132:136], "little")}
    for end in set(range(len(whole))) - ends:
        with pytest.raises((ValueError, struct.error, zlib.error)):
            check_elements(whole[:end])


def edited(form: str, at: int, value: bytes) -> bytes:
    whole = bytearray(content(FORMS[form]))
    whole[at : at + len(value)] = value
    return bytes(whole)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        # each of the first two makes SciPy 1.17 crash
        (edited("numbers", 176, b"\x92"), "unknown type 146"),
        (edited("numbers", 145, b"\x08"), "not those of its class"),
        (edited("cells", 160, b"\xff\xff\xff\x7f"), "not those of its class"),
        (edited("numbers", 144, b"\x11"), "unknown class 17"),
        (edited("numbers", 128, b"\x02"), "where a variable should be"),
        (b"", "header"),
    ],
)
def test_damage(damaged: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        check_elements(damaged)
    path = tmp_path / "a.mat"
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="a.mat: cannot be read, expected numbers .*" + message):
        read_mat(path, ["x"], lambda found: found["x"], "numbers")


def test_values(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(content(FORMS["numbers"], compress=True))
    found = read_mat(path, ["x"], lambda found: found["x"], "numbers")
    np.testing.assert_array_equal(found, FORMS["numbers"])
    with pytest.raises(DataError, match="a.mat: cannot be read, expected z"):
        read_mat(path, ["z"], lambda found: found["z"], "z")
    with pytest.raises(DataError, match="none.mat: no such file"):
        read_mat(tmp_path / "none.mat", ["x"], lambda found: found["x"], "numbers")
