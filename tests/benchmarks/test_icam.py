from __future__ import annotations

from benchmarks import contour, icam


def test_the_ways_give_the_same_loss(monkeypatch):
    monkeypatch.setattr(icam, "in_fresh_process", lambda function, *args: function(*args))
    rows = icam.benchmark_icam(size=12, classes=3, images=2, repeats=1)
    assert [row["way"] for row in rows] == list(icam.WAYS)
    assert max(row["difference"] for row in rows) < 1e-5
    assert max(row["loss differs"] for row in rows) < 1e-6


def test_the_ways_count_the_same():
    rows = contour.benchmark_contour(height=40, width=50, classes=4, images=3, repeats=1)
    assert [row["counts that differ"] for row in rows] == [0, 0]
