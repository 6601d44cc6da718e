"""A tiny dataset for every test, and loggers as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import loggers_as_before, write_dataset

__all__ = ["data", "loggers_as_before"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folder with four images and ``boxes.json``."""
    write_dataset(tmp_path / "data")
    return tmp_path / "data"
