"""BoxCaseg's loader against reading and resizing anew for every sample: the same samples, counted once each."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.boxcaseg_loader import LoaderWork, benchmark_boxcaseg_loader
from wsis.methods.boxcaseg.samples import SampleParams

PARAMS = SampleParams(32, 40, 0.25, (0.5, 1.5), "legacy")


@pytest.mark.parametrize("boxes", [3, 0])
def test_reading_alone_is_of_as_many_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boxes: int
) -> None:
    work, names = LoaderWork(tmp_path, 4, boxes, 45, 60, PARAMS), []
    module = "benchmarks.boxcaseg_loader.read_image"
    monkeypatch.setattr(module, lambda name, *size: names.append((Path(name).stem, size)))
    work.read()
    assert names == [(str(i), (45, 60)) for i in range(4)]
    names.clear()
    work.number = work.per_image + 1
    work.read()
    assert len(names) == 2


@pytest.mark.parametrize("boxes", [3, 0])
def test_both_ways_make_the_same_samples(tmp_path: Path, boxes: int) -> None:
    work = LoaderWork(tmp_path, 4, boxes, 45, 60, PARAMS)
    assert work.number == 4 * max(boxes, 1)
    assert work.largest_difference() < 1e-5
    work.samples.params = SampleParams(32, 40, 0.25, (0.5, 1.5), "unified")
    assert work.largest_difference() > 0.1  # the plain way knows the legacy one only


def test_a_row_for_each_way_and_kind() -> None:
    rows = benchmark_boxcaseg_loader(images=1, boxes=(1, 0), height=30, width=40, repeats=1)
    assert [row["way"] for row in rows] == [
        f"{kind}, {way}"
        for kind in ("1 boxes an image", "salient images")
        for way in ("plain", "loader", "reading alone")
    ]
    for row in rows:
        assert row["samples / s"] > 0 and row["largest difference"] < 1e-5
        assert math.isfinite(row["time / plain"])
