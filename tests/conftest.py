"""What every test gets: fixed seeds, one thread, no network."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

SEED = 20


@pytest.fixture(autouse=True)
def fixed_seed() -> int:
    """Seed every generator before each test, and return the seed."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002  # Detectron2's augmentations draw from it
    torch.manual_seed(SEED)
    return SEED


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Keep PyTorch on one thread: tests run side by side, and results do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuse connections of this process to other machines."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise RuntimeError(f"a test wants to connect to {address}: tests use no network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield
