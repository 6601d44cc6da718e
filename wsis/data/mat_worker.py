"""SciPy's reader of MATLAB files as a process of its own, which wsis/data/mat_files.py starts.

Imports nothing of wsis, so that it is there in a moment and small.
"""

from __future__ import annotations

import io
import resource
import sys
import zlib
from multiprocessing.connection import Connection
from struct import error as struct_error

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

MEMORY = 4 << 30
"""Bytes that it may ask for; a damaged header can state any number of cells."""
ERRORS = (
    MatReadError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    struct_error,
    zlib.error,
)
"""What SciPy raises on files that are damaged or of another kind."""


def serve(connection: Connection) -> None:
    """Answers (content, names of variables) with the variables, or with the text of an error, until the other end
    closes.
    """
    while True:
        try:
            content, names = connection.recv()
        except EOFError:
            return
        try:
            reply = True, loadmat(io.BytesIO(content), variable_names=names)
        except ERRORS as error:
            reply = False, str(error)
        connection.send(reply)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    serve(Connection(int(sys.argv[1])))
