"""The commands of the README, as they stand there."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

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


def call(starts, names, capsys):
    """What the commands in the blocks that start so print, as a shell reads them, in turn; their names are as given."""
    text = "".join(block for block in blocks("README.md") if block.startswith(starts))
    words = [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]
    assert [each[:2] for each in words] == [["wsis", name] for name in names]
    printed = ""
    for name, *options in (each[1:] for each in words):
        with pytest.raises(SystemExit) as ended:
            wsis_command.main([name, *options, *MORE.get(name, [])])
        found = capsys.readouterr()
        assert not ended.value.code, found.err
        printed += found.out
    return printed


def test_masks_on_photos(tmp_path, monkeypatch, capsys):
    """The commands behind the first picture, all but the last column of the one that is stored."""
    monkeypatch.chdir(tmp_path)
    call("wsis prepare", ["prepare", "masks", "masks", "draw"], capsys)
    for teacher in ("box_crf", "grabcut"):
        proxies = json.loads(
            (tmp_path / f"examples/{teacher}/proxy/examples_boxes.json").read_text()
        )
        assert {each["status"] for each in proxies["annotations"]} <= {"ok", "fallback"}
    pictures = (tmp_path / "examples/masks.jpg", ROOT / "docs/images/examples.jpg")
    made, stored = (np.asarray(Image.open(path)).astype(int) for path in pictures)
    stored = stored[:, : made.shape[1]]
    assert made.shape == stored.shape and np.abs(made - stored).mean() < 2


def test_your_own_boxes(tmp_path, monkeypatch, capsys):
    """Every command of the README about one's own data, as a shell reads it, in turn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "none"))
    document = write_dataset(tmp_path / "images")
    (tmp_path / "val.json").write_text(json.dumps(document))
    for annotation in document["annotations"]:
        del annotation["segmentation"], annotation["area"]
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    names = ["masks", "train", "predict", "train", "check", "evaluate", "report", "draw"]
    printed = call(("wsis masks", "wsis train", "wsis check"), names, capsys)
    assert "status: " in printed
    proxies = json.loads((tmp_path / "output/grabcut/proxy/boxes.json").read_text())
    assert len(proxies["annotations"]) == len(document["annotations"])
    for folder in ("student", "student_r50"):
        assert (tmp_path / "output" / folder / "model_final.pth").is_file()
    judged = json.loads((tmp_path / "output/student_r50/inference/results.json").read_text())
    assert set(judged) == {"val"}
    for name in ("output/report/index.html", "output/masks.jpg"):
        assert (tmp_path / name).is_file()
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
