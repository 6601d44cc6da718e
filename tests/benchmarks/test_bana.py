"""The ways that are timed give the same; sizes are tiny."""

from __future__ import annotations

import pytest

from benchmarks import bana


def test_pooling():
    rows = bana.benchmark_bana_pooling(images=2, channels=4, size=9, repeats=1)
    assert [row["way"] for row in rows] == ["grid_sample (plain)", "image by image"]
    assert max(row["difference"] for row in rows) < 1e-4


def test_labels(monkeypatch):
    pytest.importorskip("pydensecrf", reason="no CRF")
    monkeypatch.setattr(bana, "in_fresh_process", lambda function, *args: function(*args))
    rows = bana.benchmark_bana_labels(height=32, width=48, channels=8, boxes=2, repeats=1)
    assert rows[0]["label pixels that differ"] == 0
    assert rows[1]["label pixels that differ"] < 0.02
