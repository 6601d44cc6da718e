"""MATLAB 5 files, as SBD and MCG publish them.

SciPy crashes on some damaged files (an unknown type of data is an index beyond its table), so a process of its own
reads them, one for all files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, TypeVar

from wsis.errors import DataError

Result = TypeVar("Result")
_LONGEST = 60.0
"""Seconds that a file may take."""
ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError)
"""What opening a file, and looking into its variables, may raise."""


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
        return read(_reader.load(Path(path).read_bytes(), variables))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except ERRORS as error:
        detail = f" ({error})" if str(error) else ""
        raise DataError(f"{path}: cannot be read, expected {expected}{detail}") from error


class _Reader:
    """The reading process: started when a file is there to read, and again after one that ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, content: bytes, variables: Sequence[str]) -> dict[str, Any]:
        """The variables of a file.

        Raises:
            ValueError: SciPy refuses it, crashes or takes too long.
        """
        with self._lock:
            if self._process is None:
                self._start()
            try:
                self._connection.send((content, list(variables)))
                if not self._connection.poll(_LONGEST):
                    raise ValueError(f"SciPy was not done after {_LONGEST:g} s")
                whole, found = self._connection.recv()
            except (
                BaseException
            ) as error:  # after an interrupt, too, the next answer would be this file's
                self._end()
                if isinstance(error, EOFError | ConnectionError):
                    raise ValueError("SciPy crashes on it") from error
                raise
        if not whole:
            raise ValueError(found)
        return found

    def _start(self) -> None:
        # Not as multiprocessing does it: that imports the main module and wsis, and is not for worker processes.
        self._connection, there = Pipe()
        with there:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    Path(__file__).with_name("mat_worker.py"),
                    str(there.fileno()),
                ],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._connection.close()


_reader = _Reader()


def _after_fork() -> None:
    """The process of a parent answers the parent alone."""
    global _reader
    _reader = _Reader()


os.register_at_fork(after_in_child=_after_fork)
