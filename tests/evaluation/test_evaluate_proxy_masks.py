"""The command, as a user runs it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from wsis.errors import DataError

TOOL = Path(__file__).parents[2] / "tools" / "evaluate_proxy_masks.py"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("evaluate_proxy_masks", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main([str(a) for a in arguments])


@pytest.fixture
def files(document, square, tmp_path):
    gt = document({"mask": square(0, 0)}, {"mask": square(20, 0), "category_id": 20})
    proxy = document(
        {"mask": square(0, 0, 10, 6), "bbox": [0, 0, 10, 10], "status": "ok"},
        {"mask": square(20, 0), "category_id": 20, "status": "fallback"},
    )
    for name, content in (("gt", gt), ("proxy", proxy)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_with_ground_truth(main, files, capsys):
    out = files / "new" / "quality.json"
    main("--proxy", files / "proxy.json", "--gt", files / "gt.json", "--output", out)
    printed = capsys.readouterr().out
    for word in ("mIoU", "class cat", "class dog", "size small", "status fallback", "0.800"):
        assert word in printed
    quality = json.loads(out.read_text())
    assert quality["overall"]["mIoU"] == pytest.approx(0.8)
    assert quality["per_class"]["cat"]["IoU70"] == 0
    assert [p.name for p in out.parent.iterdir()] == ["quality.json"]


def test_without_ground_truth(main, files, capsys):
    main("--proxy", files / "proxy.json")
    printed = capsys.readouterr().out
    assert "box fit" in printed and "mIoU" not in printed and "0.800" in printed


def test_bad_input_writes_nothing(main, files):
    (files / "half.json").write_text((files / "gt.json").read_text()[:200])
    (files / "list.json").write_text("[]")
    out = files / "quality.json"
    for proxy, gt, message in (
        ("none", "gt", "none.json: cannot be read"),
        ("proxy", "none", "none.json: cannot be read"),
        ("proxy", "half", "half.json: not valid JSON"),
        ("list", "gt", "list.json: found no mask of an image of .*gt.json, expected a list"),
    ):
        with pytest.raises(DataError, match=message):
            main("--proxy", files / f"{proxy}.json", "--gt", files / f"{gt}.json", "--output", out)
        assert not out.exists()


def test_exit_status_two_and_one_line(files):
    document = json.loads((files / "proxy.json").read_text())
    document["annotations"][1]["id"] = 999
    (files / "proxy.json").write_text(json.dumps(document))
    command = [sys.executable, str(TOOL), "--proxy", "proxy.json", "--gt", "gt.json"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr.strip().splitlines()) == 1
    assert "proxy.json: 1 of 2 annotation ids (first: 999) are not in gt.json" in done.stderr
