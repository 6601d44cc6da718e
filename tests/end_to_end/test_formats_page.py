"""Every command of docs/formats.md, as it stands there, from boxes to corrected masks."""

import json
from pathlib import Path

import pytest

from tests.data import formats_trees as trees
from tests.end_to_end.test_docs import ROOT, commands

PAGE = "docs/formats.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a user of all six formats has, and the masks and results that the second part starts from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    trees.write_images(tmp_path / "images")
    trees.write_images(tmp_path / "yolo/images")
    trees.yolo(tmp_path / "yolo")
    for write in (trees.labelme, trees.cvat, trees.open_images, trees.via, trees.voc):
        write(tmp_path)
    return tmp_path


def test_the_commands_of_the_page(folder, run):
    found = commands(PAGE)
    assert [Path(tool).stem for tool, *_ in found] == [
        *["prepare_boxes"] * 6,
        "check_dataset",
        *["export_masks"] * 4,
        "prepare_boxes",
        "generate_proxy_masks",
    ]
    proxy = folder / "output/grabcut/proxy/boxes.json"
    for tool, *words in found:
        if "export_masks" in tool and not proxy.exists():
            made = json.loads((folder / "boxes.json").read_text())
            results = []
            for a in made["annotations"]:
                x, y, w, h = a["bbox"]
                a["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
                keys = ("image_id", "category_id", "segmentation")
                results.append({key: a[key] for key in keys} | {"score": 0.5})
            proxy.parent.mkdir(parents=True)
            proxy.write_text(json.dumps(made))
            (folder / "results.json").write_text(json.dumps(results))
        more = ["MODEL.DEVICE", "cpu", "PROXY.NUM_WORKERS", "0"] if "generate" in tool else []
        name = ROOT / tool if tool.startswith("datasets") else Path(tool).stem
        assert run(name, *words, *more) == (0, ""), tool
        if words[:2] == ["--from", "openimages"]:
            assert len(json.loads((folder / "boxes.json").read_text())["images"]) == 2
    made = json.loads((folder / "output/corrected/proxy/boxes.json").read_text())
    assert [a["status"] for a in made["annotations"]] == ["ok"] * 4
    assert len(list((folder / "labelme").rglob("*.json"))) == 3
    assert (folder / "yolo_seg/images/a.png").is_file()
