"""``tools/train_net.py`` as a user calls it."""

from __future__ import annotations

import json
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist

from tests.tiny import teacher_config, write_config, write_json

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / "tools" / "train_net.py"
Document = dict[str, Any]


@pytest.fixture
def train_net(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """``train_net(words...)``: runs the tool here; returns exit status and stderr."""

    def run(*words: Any) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOL), run_name="__main__")
        return ended.value.code, capsys.readouterr().err

    return run


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def test_training_resuming_and_evaluating(tmp_path, data, train_net):
    config = write_config(tmp_path, data, DATASETS__TEST=["tiny"], SOLVER__MAX_ITER=5)
    status, _ = train_net("--config-file", config)
    assert status == 0
    out = tmp_path / "out"
    trained = json.loads((out / "inference" / "results.json").read_text())
    assert set(trained) == {"tiny"}
    assert "AP50" in trained["tiny"]["bbox"]
    metrics = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert any(math.isfinite(each.get("total_loss", math.nan)) for each in metrics)
    assert list(out.glob("events.out.tfevents.*"))
    assert "eta: " in (out / "log.txt").read_text()

    status, _ = train_net("--config-file", config, "--resume", "SOLVER.MAX_ITER", 6)
    assert status == 0
    last = torch.load(out / "model_final.pth", weights_only=True)
    assert last["iteration"] == 5
    assert "Starting training from iteration 5" in (out / "log.txt").read_text()

    trained = json.loads((out / "inference" / "results.json").read_text())
    weights = ("MODEL.WEIGHTS", out / "model_final.pth", "OUTPUT_DIR", tmp_path / "evaluated")
    status, _ = train_net("--config-file", config, "--eval-only", *weights)
    assert status == 0
    evaluated = json.loads((tmp_path / "evaluated" / "inference" / "results.json").read_text())
    assert evaluated == trained
    assert not (tmp_path / "evaluated" / "model_final.pth").exists()


def test_evaluation_needs_no_training_data(tmp_path, data, train_net):
    config = teacher_config(
        tmp_path,
        data,
        MODEL__META_ARCHITECTURE="InscribedEllipse",
        DATASETS__TRAIN=["not_there"],
        DATASETS__TEST=["tiny"],
    )
    status, _ = train_net("--config-file", config, "--eval-only")
    assert status == 0
    results = json.loads((tmp_path / "out" / "inference" / "results.json").read_text())
    assert 0.6 < results["tiny"]["proxy"]["mIoU"] < 0.9


def test_two_machines_under_torchrun(tmp_path, data):
    """Two times ``torchrun`` with one process each stand for two machines."""
    config = write_config(tmp_path, data, SOLVER__MAX_ITER=2)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port = store.port
    del store
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    machines = [
        subprocess.Popen(
            [*command, f"--node-rank={rank}", str(TOOL), "--config-file", str(config)],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [machine.communicate(timeout=240)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert "World size: 2" in (tmp_path / "out" / "log.txt").read_text()
    assert (tmp_path / "out" / "log.txt.rank1").exists()
    assert torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["iteration"] == 1


def test_a_mistake_that_only_one_of_two_processes_meets_is_one_line(tmp_path, data):
    """The end of an image's file is missing: its header is fine, so that the training begins."""
    config = write_config(tmp_path, data, SOLVER__MAX_ITER=50)
    image = data / "2.png"
    image.write_bytes(image.read_bytes()[:3000])
    words = [sys.executable, str(TOOL), "--config-file", str(config), "--num-gpus", "2"]
    done = subprocess.run(words, env=_environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert str(image) in lines[0]
    assert "Traceback" not in done.stderr + done.stdout


def _annotation(**changes: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["annotations"][1].update(changes)

    return change


def _without_box(document: Document) -> None:
    del document["annotations"][1]["bbox"]


def _twice(kind: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document[kind][1]["id"] = document[kind][0]["id"]

    return change


def _image(**changes: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["images"][2].update(changes)

    return change


def _no_categories(document: Document) -> None:
    document["categories"] = []


BAD_DOCUMENTS = {
    "no categories": (_no_categories, "key 'categories'"),
    "no box": (_without_box, "annotation 52: key 'bbox': found None"),
    "text": (_annotation(bbox=[1, 2, "3", 4]), "annotation 52: key 'bbox': found [1, 2, '3', 4]"),
    "NaN": (_annotation(bbox=[1, 2, math.nan, 4]), "annotation 52: key 'bbox': found [1, 2, nan"),
    "three numbers": (_annotation(bbox=[1, 2, 3]), "annotation 52: key 'bbox': found [1, 2, 3]"),
    "negative size": (_annotation(bbox=[9, 9, -3, 4]), "annotation 52: key 'bbox'"),
    "no size": (_annotation(bbox=[9, 9, 0, 4]), "annotation 52: key 'bbox'"),
    "outside": (_annotation(bbox=[70, 9, 3, 4]), "annotation 52: key 'bbox'"),
    "unknown category": (_annotation(category_id=5), "annotation 52: key 'category_id': 5"),
    "unknown image": (_annotation(image_id=99), "annotation 52: key 'image_id': 99"),
    "duplicate annotation": (_twice("annotations"), "annotation id 51 occurs twice"),
    "duplicate image": (_twice("images"), "image id 1 occurs twice"),
    "duplicate category": (_twice("categories"), "category id 3 occurs twice"),
    "no height": (_image(height=0), "image 3: key 'height': found 0"),
    "wrong width": (_image(width=65), "3.png: the image is 64x64"),
    "leaves the root": (_image(file_name="../3.png"), "image 3: key 'file_name': '../3.png'"),
    "absolute": (_image(file_name="/3.png"), "image 3: key 'file_name': '/3.png'"),
    "missing image": (_image(file_name="5.png"), "image 3: "),
    "malformed mask": (_annotation(segmentation=[[1, 2, 3]]), "key 'segmentation'"),
}


def _check_refusal(outcome: tuple[int, str], text: str, folder: Path, before: list[Path]) -> None:
    status, error = outcome
    assert status == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert text in error
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_bad_documents_are_refused_in_one_line(tmp_path, data, train_net, monkeypatch, name):
    change, text = BAD_DOCUMENTS[name]
    document = json.loads((data / "boxes.json").read_text())
    change(document)
    write_json(data, document)
    masks = {"MODEL__MASK_ON": True, "WSIS__SUPERVISION": "mask"} if "mask" in name else {}
    config = write_config(tmp_path, data, **masks)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    outcome = train_net("--config-file", config)
    _check_refusal(outcome, text, tmp_path, before)
    assert str(data / "boxes.json") in outcome[1]


def _without(name: str) -> Callable[[Path], None]:
    return lambda data: (data / name).unlink()


def _cut(data: Path) -> None:
    text = (data / "boxes.json").read_text()
    (data / "boxes.json").write_text(text[: len(text) // 2])


def _list(data: Path) -> None:
    (data / "boxes.json").write_text("[1, 2]")


def _no_image(data: Path) -> None:
    (data / "3.png").write_bytes(b"no image")


def _nothing(data: Path) -> None:
    pass


BAD_FILES = {
    "missing JSON": (_without("boxes.json"), [], "boxes.json: cannot be read (No such file"),
    "half a JSON": (_cut, [], "boxes.json: not valid JSON"),
    "a list": (_list, [], "boxes.json: found a list"),
    "unreadable image": (_no_image, [], "3.png: cannot be read as an image"),
    "missing folder": (
        _nothing,
        ["DATASETS.CUSTOM", "[['tiny', 'data/boxes.json', 'elsewhere']]"],
        "elsewhere: no such image folder",
    ),
    "misspelt key": (_nothing, ["SOLVER.BASE_RL", "1"], "did you mean SOLVER.BASE_LR?"),
    "no value": (_nothing, ["SOLVER.BASE_LR"], "'SOLVER.BASE_LR' has no value"),
    "wrong type": (_nothing, ["SOLVER.BASE_LR", "fast"], "SOLVER.BASE_LR"),
    "wrong number of classes": (
        _nothing,
        ["MODEL.ROI_HEADS.NUM_CLASSES", "3"],
        "MODEL.ROI_HEADS.NUM_CLASSES: found 3, but dataset 'tiny' needs 2",
    ),
    "weights that do not match": (
        lambda data: torch.save({"x": torch.zeros(1)}, data / "w.pth"),
        ["MODEL.WEIGHTS", "data/w.pth"],
        "data/w.pth: the weights do not match the model",
    ),
    "no proxy masks": (
        _nothing,
        ["MODEL.MASK_ON", "True", "WSIS.SUPERVISION", "proxy"],
        "boxes.json has no info.wsis",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_and_keys_are_refused_in_one_line(tmp_path, data, train_net, monkeypatch, name):
    change, words, text = BAD_FILES[name]
    change(data)
    config = write_config(tmp_path, data)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    _check_refusal(train_net("--config-file", config, *words), text, tmp_path, before)


def test_weights_of_another_model_are_refused_by_evaluation(tmp_path, data, train_net):
    config = write_config(tmp_path, data, DATASETS__TEST=["tiny"])
    torch.save({"backbone.fpn_lateral2.weight": torch.zeros(16, 8, 1, 1)}, data / "w.pth")
    before = sorted(tmp_path.rglob("*"))
    words = ("--eval-only", "MODEL.WEIGHTS", data / "w.pth")
    outcome = train_net("--config-file", config, *words)
    _check_refusal(outcome, "w.pth: the weights do not match the model", tmp_path, before)


@pytest.mark.parametrize("content", ["SOLVER: [", "SOLVER:\n  BASE_RL: 1\n", None])
def test_bad_config_files_are_refused_in_one_line(tmp_path, train_net, content):
    config = tmp_path / "bad.yaml"
    if content is not None:
        config.write_text(content)
    before = sorted(tmp_path.rglob("*"))
    _check_refusal(train_net("--config-file", config), "bad.yaml", tmp_path, before)
