"""The benchmark of BoxCaseg's network: all ways give the same maps."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.boxcaseg_network import benchmark_boxcaseg_network
from wsis.errors import ConfigError


def test_all_ways_do_the_same():
    rows = benchmark_boxcaseg_network(width=2, size=32, boxes=2, repeats=1)
    maps = [row for row in rows if "boxes / s" in row]
    steps = [row for row in rows if "images / s" in row]
    assert [len(maps), len(steps)] == [2, 2]
    assert all(row["relative difference"] < 1e-4 for row in maps)
    for row in rows:
        assert all(math.isfinite(v) and v >= 0 for v in row.values() if isinstance(v, float))


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="found cuda, but this machine has none"):
        benchmark_boxcaseg_network(device="cuda")
