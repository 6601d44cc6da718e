"""``tools/draw_masks.py`` as a user calls it, the sheet that it writes, and those of the quickstart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TOOLS
from tests.report.pages import SIZE, write_files
from wsis.data.source import load_source
from wsis.engine.comparison import Comparison
from wsis.report.comparison import teacher_sheet
from wsis.report.overlay import PALETTE
from wsis.structures.rle import encode_mask

PLAN = {"proxy": "train_boxes", "gt": "train_masks"}
"""File to the key of a plan that names it."""


@pytest.fixture
def draw(tmp_path, tool):
    write_files(tmp_path)
    files = [f"{name}={tmp_path / name}.json" for name in ("proxy", "gt")]

    def run(*words, masks=files, output="masks.png"):
        given = ["--masks", *masks, "--images", tmp_path, "--output", tmp_path / output]
        return tool("draw_masks", *given, *words)

    return run


@pytest.mark.parametrize(
    ("output", "words", "kind", "side"),
    [
        ("masks.png", (), "PNG", 4 * SIZE),
        ("new/masks.JPG", ("--width", 48), "JPEG", 48),
        ("masks.webp", ("--count", 2), "WEBP", 4 * SIZE),
    ],
)
def test_a_row_per_image_and_a_column_per_file(draw, tmp_path, output, words, kind, side):
    assert draw(*words, output=output) == (0, f"{tmp_path / output}\n", "")
    with Image.open(tmp_path / output) as sheet:
        assert sheet.format == kind
        rows = 2 if "--count" in words else 4
        assert sheet.size == (3 * (side + 4) + 4, 23 + rows * (side + 4))


@pytest.mark.parametrize("width", [16, SIZE, 3 * SIZE])
def test_masks_and_boxes_lie_where_they_are_at_every_size(tmp_path, width):
    Image.new("L", (SIZE, SIZE), 100).save(tmp_path / "1.png")
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[:, : SIZE // 2] = True
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, SIZE // 2, SIZE]}
    document = {
        "images": [{"id": 1, "file_name": "1.png", "height": SIZE, "width": SIZE}],
        "annotations": [annotation | {"segmentation": encode_mask(mask)}],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "masks.json").write_text(json.dumps(document))
    sheet = teacher_sheet({"a": load_source(tmp_path / "masks.json", tmp_path)}, width=width)
    box, half = (sheet[23:-4, 4 + i * (width + 4) :][:, :width] for i in range(2))
    there = np.arange(width) < width // 2
    assert (half[:, ~there] == 100).all() and (half[:, there] != 100).any(axis=2).all()
    line = (box == PALETTE[0]).all(axis=2)
    assert line[:, width // 2 - 1].all() and (box[~line] == 100).all() and not line[:, ~there].any()


def test_mistakes_are_one_line(draw, tmp_path):
    document = json.loads((tmp_path / "gt.json").read_text())
    lists = document["images"], document["annotations"]
    (tmp_path / "part.json").write_text(json.dumps(document | {"annotations": lists[1][1:]}))
    for each in lists[1]:
        del each["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    for words, given, message in (
        (("--count", 0), {}, "--count: found 0, expected at least 1"),
        (("--width", 0), {}, "--width: found 0, expected at least 1"),
        ((), {"output": "masks.gif"}, "found 'masks.gif', expected .png, .jpg, .webp"),
        ((), {"masks": ["proxy.json"]}, "--masks: found 'proxy.json', expected NAME=JSON"),
        ((), {"masks": [f"boxes={tmp_path}/boxes.json"]}, "none has a 'segmentation'"),
        ((), {"masks": [f"{n}={tmp_path}/{n}.json" for n in ("gt", "part")]}, "expected the same"),
    ):
        status, printed, error = draw(*words, **given)
        assert (status, printed, error.count("\n")) == (2, "", 1) and message in error
    assert not list(tmp_path.glob("masks.*"))


def test_the_pictures_of_a_finished_plan(tmp_path, tool, monkeypatch):
    """What the quickstart draws and says when all steps are done."""
    write_files(tmp_path)
    custom = [[f"sheet_{name}", str(tmp_path / f"{name}.json"), str(tmp_path)] for name in PLAN]
    keys = {key: name for (name, *_), key in zip(custom, PLAN.values(), strict=True)}
    config = str(TOOLS.parent / "configs/baselines/filled_box.yaml")
    plan = {"title": "all", "custom": custom, "val": keys["train_masks"], **keys}
    plan |= {"detector": config, "student": config, "teachers": {"cut": config}}
    plan["show"] = [["datasets/some.py", "there.jpg"]]
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    proxy = tmp_path / "out/cut/proxy" / f"{keys['train_boxes']}.json"
    proxy.parent.mkdir(parents=True)
    proxy.write_bytes((tmp_path / "proxy.json").read_bytes())

    def run(comparison):
        comparison._register()
        row = {"proxy_mIoU": 0.5, "AP": 1.0, "AP50": 2.0, "AP75": 0.0, "share": 0.25}
        return {"rows": {"cut": row}, "detector": {"AP": 3.0, "AP50": 4.0}, "seconds": {"a": 1.0}}

    monkeypatch.setattr(Comparison, "run", run)
    words = ["--plan", tmp_path / "plan.yaml", "--output", tmp_path / "out"]
    status, printed, error = tool("quickstart", *words)
    assert (status, error) == (0, "")
    assert "| cut" in printed and "box AP 3.0" in printed and printed.endswith(", there.jpg\n")
    for name, columns in (("teachers", 3), ("students", 2)):
        with Image.open(tmp_path / f"out/{name}.png") as sheet:
            assert sheet.width == columns * (4 * SIZE + 4) + 4
    assert (tmp_path / "out/report/cut/index.html").is_file()
