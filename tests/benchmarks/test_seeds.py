"""The ways that are timed give the same; sizes are tiny."""

from __future__ import annotations

import pytest

from benchmarks import seeds


@pytest.fixture(autouse=True)
def here(monkeypatch) -> None:
    monkeypatch.setattr(seeds, "in_fresh_process", lambda function, *args: function(*args))


@pytest.mark.parametrize(
    "rows",
    [
        lambda: seeds.benchmark_walk(rows=11, columns=14, steps=16),
        lambda: seeds.benchmark_pairs(channels=6, size=12, repeats=1),
        lambda: seeds.benchmark_seed_sweep(images=2, height=20, width=30, repeats=1),
    ],
    ids=["walk", "pairs", "seed_sweep"],
)
def test_both_ways_agree(rows) -> None:
    plain, ours = rows()
    assert plain["way"].endswith("(plain)") and plain["difference"] == 0
    assert ours["difference"] < 1e-4


def test_maps_on_disk_are_small_and_come_back():
    plain, full, coarse = seeds.benchmark_score_maps(images=2, height=60, width=90, repeats=1)
    assert plain["bytes / pixel and class"] > 4 and plain["error"] == 0
    assert coarse["bytes / pixel and class"] < full["bytes / pixel and class"] < 1
    assert coarse["error"] < full["error"] < 0.002
