from __future__ import annotations

from benchmarks import fusion, sam


def test_memory_and_time_of_both_ways(monkeypatch):
    monkeypatch.setattr(fusion, "in_fresh_process", lambda function, *args: function(*args))
    rows = fusion.benchmark_fusion(files=2, masks=(3, 60), timed_masks=4, repeats=1)
    assert [row["way"] for row in rows[:2]] == [fusion.PLAIN, "generation"]
    assert [row["way"] for row in rows[2:]] == [
        f"{way}, {number} masks" for number in (3, 60) for way in (fusion.PLAIN, "generation")
    ]
    assert all(row["/ first"] >= 0 for row in rows[2:])


def test_boxes_asked_together_are_those_asked_alone():
    rows = sam.benchmark_sam(boxes=3, together=2, repeats=1)
    assert [row["way"] for row in rows][0] == sam.PLAIN and len(rows) == 3
    assert rows[1]["difference"] < 1e-4
