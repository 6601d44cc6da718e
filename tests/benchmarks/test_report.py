"""The benchmark of the report page, at a size that says nothing."""

from __future__ import annotations

import json

import pytest

from benchmarks import report
from benchmarks.report import benchmark_report
from tests.report.browser import CHROMIUM
from wsis.data.shapes.scene import draw_scene
from wsis.evaluation import proxy_quality


def test_one_row_per_size(monkeypatch):
    monkeypatch.setattr(report, "SCENES", 2)
    small, large = benchmark_report(masks=20, size=48)
    assert (small["masks"], large["masks"]) == (2, 20)
    assert 0 < small["MB"] < large["MB"] < 1
    for row in (small, large):
        assert row["kB / mask"] == pytest.approx(1000 * row["MB"] / row["masks"])
        assert (row["ms to all"] is None) == (CHROMIUM is None)
        json.dumps(row)


def test_its_masks_are_not_the_true_ones(tmp_path):
    gt, proxy = report._write_files(tmp_path, [draw_scene(0, "train", 0, 64)], 12)
    quality = proxy_quality(report.load_source(proxy), report.load_source(gt))
    assert quality["overall"]["count"] == 12
    assert 0.2 < quality["overall"]["mIoU"] < 0.98
