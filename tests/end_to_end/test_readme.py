"""The commands of the README, as they stand there."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest

import wsis_command
from tests.end_to_end.test_docs import ROOT, blocks
from tests.tiny import write_dataset

CPU = ["MODEL.DEVICE", "cpu"]
SMALL = (
    "MODEL.WEIGHTS '' SOLVER.MAX_ITER 1 SOLVER.IMS_PER_BATCH 1 SOLVER.STEPS '()' DATALOADER.NUM_WORKERS 0"
    " INPUT.MIN_SIZE_TRAIN '(64,)' INPUT.MIN_SIZE_TEST 64 MODEL.RPN.POST_NMS_TOPK_TRAIN 20"
)
"""The smallest training there is."""
MORE = {
    "masks": [*CPU, "PROXY.NUM_WORKERS", "0"],
    "train": [*CPU, *shlex.split(SMALL)],
    "predict": CPU,
}
"""What a test adds to a command."""


def test_your_own_boxes(tmp_path, monkeypatch, capsys):
    """Every command of the README about one's own data, as a shell reads it, in turn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "none"))
    document = write_dataset(tmp_path / "images")
    (tmp_path / "val.json").write_text(json.dumps(document))
    for annotation in document["annotations"]:
        del annotation["segmentation"], annotation["area"]
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    text = "".join(block for block in blocks("README.md") if block.startswith("wsis "))
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines]
    names = ["masks", "train", "predict", "train", "check", "evaluate", "report"]
    assert [each[:2] for each in words] == [["wsis", name] for name in names]
    printed = ""
    for name, *options in (each[1:] for each in words):
        with pytest.raises(SystemExit) as ended:
            wsis_command.main([name, *options, *MORE.get(name, [])])
        found = capsys.readouterr()
        assert not ended.value.code, found.err
        printed += found.out
    assert "status: " in printed
    proxies = json.loads((tmp_path / "output/grabcut/proxy/boxes.json").read_text())
    assert len(proxies["annotations"]) == len(document["annotations"])
    for folder in ("student", "student_r50"):
        assert (tmp_path / "output" / folder / "model_final.pth").is_file()
    judged = json.loads((tmp_path / "output/student_r50/inference/results.json").read_text())
    assert set(judged) == {"val"}
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
    assert {"install", "demo", "demo-all", "test", "test-slow", "lint"} <= targets
    assert [t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.M)] == []
