from __future__ import annotations

import pytest

from benchmarks.bana_seg import benchmark_bana_seg


def test_rows_say_what_was_compared() -> None:
    rows = benchmark_bana_seg(crop=32, classes=3, width=1 / 32, repeats=1)
    assert [row["way"].split(",")[0] for row in rows] == ["eight passes"] * 3
    assert rows[0]["time / plain"] == pytest.approx(1)
    assert all(row["images / s"] > 0 for row in rows)
    assert all(row["pixels that differ"] < 0.2 for row in rows)
    assert rows[1]["pixels that differ"] == pytest.approx(rows[2]["pixels that differ"], abs=0.01)
