from __future__ import annotations

import json

from benchmarks import source


def test_all_ways_read_the_same_boxes(monkeypatch):
    monkeypatch.setattr(source, "in_fresh_process", lambda function, *args: function(*args))
    rows = source.benchmark_source(images=30, per_image=3, repeats=1)
    assert [row["way"] for row in rows] == [source.PLAIN, source.COLUMNS, source.SHARED]
    assert [row["differ"] for row in rows] == [0, 0, 0]


def test_what_differs_is_counted(tmp_path):
    source.write_boxes(tmp_path / "a.json", 4, 2)
    read = source.load_source(tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    document["annotations"][2]["area"] += 1
    del document["annotations"][7]
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert source.count_differences(tmp_path / "a.json", read.annotations) == 2
