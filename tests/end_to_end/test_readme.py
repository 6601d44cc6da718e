"""The commands of the README, as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import write_dataset

ROOT = Path(__file__).parents[2]
SMALL = (
    " MODEL.WEIGHTS '' MODEL.DEVICE cpu SOLVER.MAX_ITER 1 SOLVER.IMS_PER_BATCH 1 SOLVER.STEPS '()'"
    " INPUT.MIN_SIZE_TRAIN '(64,)' DATALOADER.NUM_WORKERS 0 MODEL.RPN.POST_NMS_TOPK_TRAIN 20"
)


def blocks(language: str = "") -> list[str]:
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def test_your_own_boxes_in_three_commands_and_three_more(tmp_path):
    for name in ("tools", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    document = write_dataset(tmp_path / "images")
    for annotation in document["annotations"]:
        del annotation["segmentation"], annotation["area"]
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    (script,) = [block for block in blocks() if "DATA=" in block]
    assert script.count("python tools/") == 3
    (more,) = [block for block in blocks() if "check_dataset" in block]
    assert more.count("python tools/") == 3
    # the third command takes the smallest training there is
    script = f"{script.rstrip()}{SMALL}\n{more.rstrip()} MODEL.DEVICE cpu"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "DETECTRON2_DATASETS": str(tmp_path / "none"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "status: " in done.stdout  # of the second command
    proxies = json.loads((tmp_path / "output/grabcut/proxy/mine.json").read_text())
    assert len(proxies["annotations"]) == len(document["annotations"])
    assert (tmp_path / "output/student/model_final.pth").is_file()
    assert (tmp_path / "output/report/index.html").is_file()
    assert json.loads((tmp_path / "output/found/predictions.json").read_text())["images"]


def test_the_notebook_example():
    import numpy as np

    (example,) = blocks("python")
    names = {"image": np.zeros((20, 30, 3), dtype=np.uint8), "boxes": [[1, 2, 9, 12]]}
    exec(compile(example, "README.md", "exec"), names)
    assert names["proxy"].pred_masks.shape == (1, 20, 30)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/proxy_file.md"])
def test_every_file_that_is_named_is_there(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(
        r"(?:tools|configs|datasets|docs|wsis|tests)/[\w./-]+\.(?:py|yaml|md|png)", text
    )
    named = {*((Path(page).parent / link) for link in links), *map(Path, paths)}
    assert named
    assert [str(path) for path in named if not (ROOT / path).exists()] == []


def test_every_make_target_that_is_named_is_there():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "lint"} <= targets
    assert [t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.M)] == []
