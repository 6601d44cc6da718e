"""The pages under docs/: their Python runs, their commands parse, and what they name is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from tests.tiny import write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), flags=re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the notebook's blocks read: a photograph, a student, a proxy-mask file with its images."""
    monkeypatch.chdir(tmp_path)
    document = write_dataset(tmp_path / "images")
    (tmp_path / "proxy.json").write_text(json.dumps(document))
    config = write_config(tmp_path / "student", tmp_path / "images", MODEL__MASK_ON=True)
    cfg = load_cfg(config)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    weights = {"model": build_model(cfg).state_dict()}
    torch.save(weights, tmp_path / "student/model_final.pth")
    Image.new("LA", (40, 30)).save(tmp_path / "photo.png")
    return tmp_path


def test_the_notebook(folder, capsys):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    names = {"image": image, "boxes": np.array([[10, 10, 40, 50], [50, 5, 70, 25]])}
    examples = blocks("docs/notebook.md", "python")
    assert len(examples) == 6
    for example in examples:
        exec(compile(example, "docs/notebook.md", "exec"), names)
    assert names["proxy"].pred_masks.shape == (2, 60, 80)
    assert names["picture"].dtype == np.uint8 and names["picture"].shape[1] > 320
    assert len(names["fits"]) == 2 and max(names["fits"]) <= 1
    assert names["image"].shape == (30, 40, 3)
    assert {"pred_boxes", "scores", "pred_masks"} <= set(names["instances"].get_fields())
    assert [m.shape for m in names["masks"]] == [(64, 64)]
    assert "box fit" in capsys.readouterr().out


def commands(page: str) -> list[list[str]]:
    text = "\n".join(blocks(page)).replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("python ")]


def test_the_commands_for_external_masks(folder, run):
    document = json.loads((folder / "proxy.json").read_text())
    results = [
        {k: a[k] for k in ("image_id", "segmentation", "category_id")}
        for a in document["annotations"]
    ]
    (folder / "sam.json").write_text(json.dumps(results))
    for name in ("boxes.json", "true.json"):
        (folder / name).write_text(json.dumps(document))
    (folder / "configs").symlink_to(ROOT / "configs")
    found = commands("docs/external_masks.md")
    tools = [tool for tool, *_ in found]
    assert tools == ["tools/generate_proxy_masks.py"] + ["tools/evaluate_proxy_masks.py"] * 2
    for tool, *arguments in found:
        more = ["MODEL.DEVICE", "cpu", "PROXY.NUM_WORKERS", "0"] if "generate" in tool else []
        assert run(Path(tool).stem, *arguments, *more) == (0, "")
    made = json.loads((folder / "output/sam/proxy/boxes.json").read_text())
    assert [a["status"] for a in made["annotations"]] == ["ok"] * 4
    (example,) = blocks("docs/external_masks.md", "json")
    assert set(json.loads(example)[0]) == {"image_id", "segmentation", "annotation_id", "score"}


PAGES = ["README.md", "datasets/README.md"]
OF_FILES = ("external_masks", "formats", "proxy_file", "score_maps")
PAGES += [f"docs/{name}.md" for name in ("notebook", "report", "results", *OF_FILES)]
PAGES += [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/experiments/*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    folders = "tools|configs|datasets|docs|wsis|tests"
    paths = re.findall(rf"\b(?:{folders})/[\w./-]+\.(?:py|yaml|md|png)", text)
    named = {*((Path(page).parent / link) for link in links), *map(Path, paths)}
    assert named
    assert [str(path) for path in named if not (ROOT / path).exists()] == []


def test_the_page_of_the_house_names_what_is_there():
    page = (ROOT / "docs/architecture.md").read_text()
    named = set()
    for row in (line for line in page.splitlines() if line.startswith("|")):
        folder = ""
        for path in re.findall(r"`([a-z_0-9/]+(?:/|\.py|\.md))`", row):
            full = path if "/" in path else f"{folder}/{path}"
            folder = str(Path(full).parent)
            assert (ROOT / full).exists(), full
            named.add(full)
    assert len(named) >= 35
    rooms = {path.name for path in (ROOT / "wsis").iterdir() if (path / "__init__.py").is_file()}
    assert not {room for room in rooms if room not in page}
    equations = {path.name for path in (ROOT / "wsis/layers").glob("[a-z]*.py")}
    assert not {name for name in equations if name not in page}
