import io
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix, issparse

from wsis.data import mat_files
from wsis.data.mat_files import read_mat
from wsis.errors import DataError


def cells(*values):
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


def content(value, compress=False):
    stream = io.BytesIO()
    savemat(stream, {"x": value, "y": 1}, do_compression=compress)
    return stream.getvalue()


def x_of(path, damaged):
    path.write_bytes(damaged)
    return read_mat(path, ["x"], lambda found: found["x"], "numbers")


def plain(value):
    """Text of a loaded value that tells two of them apart."""
    if issparse(value):
        return plain(value.toarray())
    return repr([plain(v) for v in value.ravel()] if value.dtype == object else value)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_values_or_one_line(form, compress, tmp_path):
    whole = content(FORMS[form], compress)
    expected = plain(loadmat(io.BytesIO(whole))["x"])
    assert plain(x_of(tmp_path / "a.mat", whole)) == expected
    end = 128 + 8 + int.from_bytes(whole[132:136], "little")  # of x; what follows is not needed
    for cut in (0, 60, 127, *range(128, end, 11), end - 1):
        try:
            found = plain(x_of(tmp_path / "a.mat", whole[:cut]))
        except DataError as error:
            assert "a.mat: cannot be read, expected numbers" in str(error)
        else:  # only padding is missing
            assert cut > end - 8 and found == expected


def edited(form, at, value):
    whole = bytearray(content(FORMS[form]))
    whole[at : at + len(value)] = value
    return bytes(whole)


@pytest.mark.parametrize(
    "damaged",
    [
        # each of the first two makes SciPy 1.17 crash
        edited("numbers", 176, b"\x92"),  # data of unknown type 146
        edited("numbers", 145, b"\x08"),  # complex, without an imaginary part
        edited("cells", 160, b"\xff\xff\xff\x7f"),  # two thousand million cells
        edited("numbers", 144, b"\x11"),  # a variable of unknown class 17
        edited("numbers", 128, b"\x02"),  # numbers where a variable should be
        b"",
    ],
)
def test_damage(damaged, tmp_path):
    with pytest.raises(DataError, match="a.mat: cannot be read, expected numbers .+"):
        x_of(tmp_path / "a.mat", damaged)
    assert x_of(tmp_path / "a.mat", content(FORMS["numbers"])).shape == (2, 3)


@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGKILL, "SciPy crashes on it"), (signal.SIGSTOP, "SciPy was not done after 0.2 s")],
)
def test_the_process_is_replaced(number, message, tmp_path, monkeypatch):
    whole = content(FORMS["numbers"])
    x_of(tmp_path / "a.mat", whole)
    process = mat_files._reader._process
    with monkeypatch.context() as patch, pytest.raises(DataError, match=message):
        patch.setattr(mat_files, "_LONGEST", 0.2)
        process.send_signal(number)
        x_of(tmp_path / "a.mat", whole)
    assert process.returncode == -signal.SIGKILL
    assert x_of(tmp_path / "a.mat", whole).shape == (2, 3)


def test_forks_and_threads_do_not_share_answers(tmp_path):
    def read(number):
        return int(x_of(tmp_path / f"{number}.mat", content(np.full((300, 300), number)))[0, 0])

    read(0)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(20))) == list(range(20))
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit([read(k) for k in range(20)] != list(range(20)))
    )
    child.start()
    assert [read(k) for k in range(20)] == list(range(20))
    child.join()
    assert child.exitcode == 0


def test_what_is_not_there_is_named(tmp_path):
    x_of(tmp_path / "a.mat", content(FORMS["numbers"]))
    with pytest.raises(DataError, match="a.mat: cannot be read, expected z"):
        read_mat(tmp_path / "a.mat", ["z"], lambda found: found["z"], "z")
    with pytest.raises(DataError, match="none.mat: no such file"):
        read_mat(tmp_path / "none.mat", ["x"], lambda found: found["x"], "numbers")
