"""The commands of the README, as they stand there."""

from __future__ import annotations

import json
import re
import subprocess

import numpy as np

from tests.end_to_end.test_docs import ROOT, blocks
from tests.tiny import write_dataset

SMALL = (
    " MODEL.WEIGHTS '' MODEL.DEVICE cpu SOLVER.MAX_ITER 1 SOLVER.IMS_PER_BATCH 1 SOLVER.STEPS '()'"
    " INPUT.MIN_SIZE_TRAIN '(64,)' INPUT.MIN_SIZE_TEST 64 DATALOADER.NUM_WORKERS 0 MODEL.RPN.POST_NMS_TOPK_TRAIN 20"
)
WORDS = "python() { printf '%s\\0' \"$@\"; printf '\\n\\0'; }\n"
"""In place of Python: prints its words, a line break after each command."""


def test_your_own_boxes_in_three_commands_and_three_more(tmp_path, monkeypatch, tool):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "none"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    document = write_dataset(tmp_path / "images")
    for annotation in document["annotations"]:
        del annotation["segmentation"], annotation["area"]
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    (script,) = [block for block in blocks("README.md") if "DATA=" in block]
    assert script.count("python tools/") == 3
    (more,) = [block for block in blocks("README.md") if "check_dataset" in block]
    assert more.count("python tools/") == 3
    # the third command takes the smallest training there is
    script = f"{WORDS}{script.rstrip()}{SMALL}\n{more.rstrip()} MODEL.DEVICE cpu"
    shell = ["bash", "-euo", "pipefail", "-c", script]
    read = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    commands = [words.split("\0")[:-1] for words in read.split("\n\0")[:-1]]
    assert len(commands) == 6
    printed = ""
    for path, *words in commands:
        workers = ["PROXY.NUM_WORKERS", "0"] if "generate" in path else []
        status, out, err = tool(ROOT / path, *words, *workers)
        assert status == 0, err
        printed += out
    assert "status: " in printed  # of the second command
    proxies = json.loads((tmp_path / "output/grabcut/proxy/mine.json").read_text())
    assert len(proxies["annotations"]) == len(document["annotations"])
    assert (tmp_path / "output/student/model_final.pth").is_file()
    assert (tmp_path / "output/report/index.html").is_file()
    assert json.loads((tmp_path / "output/found/predictions.json").read_text())["images"]


def test_the_notebook_example():
    (example,) = blocks("README.md", "python")
    names = {"image": np.zeros((20, 30, 3), dtype=np.uint8), "boxes": [[1, 2, 9, 12]]}
    exec(compile(example, "README.md", "exec"), names)
    assert names["proxy"].pred_masks.shape == (1, 20, 30)


def test_every_make_target_that_is_named_is_there():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "test-slow", "lint"} <= targets
    assert [t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.M)] == []
