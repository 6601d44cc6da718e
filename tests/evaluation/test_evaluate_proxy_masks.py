"""``tools/evaluate_proxy_masks.py``, as a user runs it."""

from __future__ import annotations

import json
from functools import partial

import pytest


@pytest.fixture
def run(tool, document, square, tmp_path, monkeypatch):
    gt = document({"mask": square(0, 0)}, {"mask": square(20, 0), "category_id": 20})
    proxy = document(
        {"mask": square(0, 0, 10, 6), "bbox": [0, 0, 10, 10], "status": "ok"},
        {"mask": square(20, 0), "category_id": 20, "status": "fallback"},
    )
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "proxy.json").write_text(json.dumps(proxy))
    (tmp_path / "half.json").write_text(json.dumps(gt)[:200])
    (tmp_path / "list.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    return partial(tool, "evaluate_proxy_masks", "--proxy")


def test_with_ground_truth(run, tmp_path):
    out = tmp_path / "new" / "quality.json"
    status, printed, errors = run("proxy.json", "--gt", "gt.json", "--output", out)
    assert (status, errors) == (0, "")
    for word in ("mIoU", "class cat", "class dog", "size small", "status fallback", "0.800"):
        assert word in printed
    assert "raster" in printed and "large" not in printed and "ignored" not in printed
    quality = json.loads(out.read_text())
    assert quality["overall"]["mIoU"] == pytest.approx(0.8)
    assert quality["per_class"]["cat"]["IoU70"] == 0
    assert [p.name for p in out.parent.iterdir()] == ["quality.json"]


def test_without_ground_truth(run):
    printed = run("proxy.json")[1]
    assert "box fit" in printed and "mIoU" not in printed and "0.800" in printed


@pytest.mark.parametrize(
    ("proxy", "gt", "message"),
    [
        ("none.json", "gt.json", "none.json: cannot be read"),
        ("proxy.json", "none.json", "none.json: cannot be read"),
        ("proxy.json", "half.json", "half.json: not valid JSON"),
        ("list.json", "gt.json", "list.json: found no mask of an image of gt.json"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(run, tmp_path, proxy, gt, message):
    status, printed, errors = run(proxy, "--gt", gt, "--output", "quality.json")
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert not (tmp_path / "quality.json").exists()
