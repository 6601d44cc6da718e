from __future__ import annotations

from benchmarks import many_boxes


def test_both_ways_make_the_same(monkeypatch):
    monkeypatch.setattr(many_boxes, "in_fresh_process", lambda function, *args: function(*args))
    rows = many_boxes.benchmark_many_boxes(objects=(1, 9), side=20, height=90, width=120)
    assert [row["way"] for row in rows] == [many_boxes.PLAIN, many_boxes.OURS] * 2
    assert [row["differ"] for row in rows] == [0] * 4


def test_what_differs_is_counted(tmp_path):
    record = many_boxes.image_with_boxes(tmp_path, 5, 20, 90, 120)
    plain, ours = (
        many_boxes._student_input(way, record, 30) for way in (many_boxes.PLAIN, many_boxes.OURS)
    )
    assert many_boxes._differences(plain, ours) == 0
    ours[0].gt_classes[0] += 1
    ours[0].gt_boxes.tensor[1] += 1
    ours[0].gt_masks = ours[0].gt_masks[[1, 1, 2, 3, 4]]
    assert many_boxes._differences(plain, ours) == 3
    assert many_boxes._differences(plain, (ours[0][:4], ours[1])) == 5
