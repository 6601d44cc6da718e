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
