from __future__ import annotations

import pytest

from benchmarks.bas import benchmark_bas
from wsis.errors import ConfigError


def test_rows_say_what_was_compared() -> None:
    rows = benchmark_bas("mobilenet_v1", classes=3, batch=2, size=64, head_channels=8, repeats=1)
    assert len(rows) == 6 and [row["time / plain"] for row in rows[::2]] == pytest.approx([1] * 3)
    assert all("plain" in row["way"] for row in rows[::2])
    assert all(row["difference"] < 1e-6 for row in rows)


def test_an_unknown_network() -> None:
    with pytest.raises(ConfigError, match="--network: found alexnet, expected one of vgg16"):
        benchmark_bas("alexnet")
