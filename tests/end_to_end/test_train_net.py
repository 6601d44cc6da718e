"""``tools/train_net.py`` as a user calls it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist

from tests.tiny import teacher_config, write_config, write_json

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / "tools" / "train_net.py"
Document = dict[str, Any]
BOX = "annotation 52: key 'bbox': "


@pytest.fixture
def train_net(run) -> Callable[..., tuple[int, str]]:
    """``train_net(words...)``: exit status and error of the tool."""
    return partial(run, "train_net", "--config-file")


def _results(output: Path) -> dict[str, Any]:
    return json.loads((output / "inference" / "results.json").read_text())


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def test_training_resuming_and_evaluating(tmp_path, data, train_net):
    config = write_config(tmp_path, data, DATASETS__TEST=["tiny"], SOLVER__MAX_ITER=5)
    assert train_net(config)[0] == 0
    out = tmp_path / "out"
    assert set(_results(out)) == {"tiny"}
    assert "AP50" in _results(out)["tiny"]["bbox"]
    metrics = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert any(math.isfinite(each.get("total_loss", math.nan)) for each in metrics)
    assert list(out.glob("events.out.tfevents.*"))
    assert "eta: " in (out / "log.txt").read_text()

    assert train_net(config, "--resume", "SOLVER.MAX_ITER", 6)[0] == 0
    assert torch.load(out / "model_final.pth", weights_only=True)["iteration"] == 5
    assert "Starting training from iteration 5" in (out / "log.txt").read_text()

    weights = ("MODEL.WEIGHTS", out / "model_final.pth", "OUTPUT_DIR", tmp_path / "evaluated")
    assert train_net(config, "--eval-only", *weights)[0] == 0
    assert _results(tmp_path / "evaluated") == _results(out)
    assert not (tmp_path / "evaluated" / "model_final.pth").exists()


def test_evaluation_needs_no_training_data(tmp_path, data, train_net):
    keys = {"MODEL__META_ARCHITECTURE": "InscribedEllipse", "DATASETS__TEST": ["tiny"]}
    config = teacher_config(tmp_path, data, DATASETS__TRAIN=["not_there"], **keys)
    assert train_net(config, "--eval-only")[0] == 0
    assert 0.6 < _results(tmp_path / "out")["tiny"]["proxy"]["mIoU"] < 0.9


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


def _entry(kind: str, index: int, **changes: Any) -> Callable[[Document], None]:
    return lambda document: document[kind][index].update(changes)


_annotation, _image = partial(_entry, "annotations", 1), partial(_entry, "images", 2)
BAD_DOCUMENTS = {
    "no categories": (lambda document: document.update(categories=[]), "key 'categories'"),
    "no box": (_annotation(bbox=None, segmentation=None), BOX + "found None"),
    "text": (_annotation(bbox=[1, 2, "x", 4]), BOX + "found [1, 2, 'x', 4]"),
    "NaN": (_annotation(bbox=[1, 2, math.nan, 4]), BOX + "[0, 0, 0, 0] has no area"),
    "three numbers": (_annotation(bbox=[1, 2, 3]), BOX + "found [1, 2, 3]"),
    "negative size": (_annotation(bbox=[9, 9, -3, 4]), BOX),
    "no size": (_annotation(bbox=[9, 9, 0, 4]), BOX),
    "outside": (_annotation(bbox=[70, 9, 3, 4]), BOX),
    "unknown category": (_annotation(category_id=5), "annotation 52: key 'category_id': 5"),
    "image of no type": (_annotation(image_id=[9]), "annotation 52: key 'image_id': [9]"),
    "duplicate annotation": (_annotation(id=51), "annotation id 51 occurs twice"),
    "duplicate image": (_entry("images", 1, id=1), "image id 1 occurs twice"),
    "duplicate category": (_entry("categories", 1, id=3), "category id 3 occurs twice"),
    "no height": (_image(height=-1), "image 3: key 'height': found -1"),
    "wrong width": (_image(width=65), "3.png: the image is 64x64"),
    "leaves the root": (_image(file_name="../9.png"), "image 3: key 'file_name': '../9.png'"),
    "absolute": (_image(file_name="/9.png"), "image 3: key 'file_name': '/9.png'"),
    "missing image": (_image(file_name="5.png"), "image 3: "),
    "malformed mask": (_annotation(segmentation=[["a"] * 6]), "key 'segmentation'"),
}


@pytest.fixture
def refused(tmp_path, tool, monkeypatch) -> Callable[..., str]:
    """``refused(config, words...)``: the error, one line, after which nothing is written."""

    def check(*words: Any) -> str:
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        status, _, error = tool("train_net", "--config-file", *words)
        assert status == 2 and error.startswith("error: ") and error.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return error

    return check


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_bad_documents_are_refused_in_one_line(tmp_path, data, refused, name):
    change, text = BAD_DOCUMENTS[name]
    document = json.loads((data / "boxes.json").read_text())
    change(document)
    write_json(data, document)
    masks = {"MODEL__MASK_ON": True, "WSIS__SUPERVISION": "mask"} if "mask" in name else {}
    error = refused(write_config(tmp_path, data, **masks))
    assert text in error and str(data / "boxes.json") in error


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("boxes.json", None, "boxes.json: cannot be read (No such file"),
        ("boxes.json", '{"images": [{"id": 1,', "boxes.json: not valid JSON"),
        ("boxes.json", "[1, 2]", "boxes.json: found a list"),
        ("3.png", "no image", "3.png: cannot be read as an image"),
        ("bad.yaml", "SOLVER: [", "bad.yaml"),
        ("bad.yaml", "SOLVER:\n  BASE_RL: 1\n", "bad.yaml"),
        ("bad.yaml", None, "bad.yaml"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, data, refused, name, content, text):
    config = write_config(tmp_path, data)
    (data / name).unlink(missing_ok=True)
    if content is not None:
        (data / name).write_text(content)
    assert text in refused(data / name if name == "bad.yaml" else config)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("DATASETS.CUSTOM [['tiny','data/boxes.json','else']]", "else: no such image folder"),
        ("SOLVER.BASE_RL 1", "did you mean SOLVER.BASE_LR?"),
        ("SOLVER.BASE_LR", "'SOLVER.BASE_LR' has no value"),
        ("SOLVER.BASE_LR fast", "SOLVER.BASE_LR"),
        ("MODEL.ROI_HEADS.NUM_CLASSES 3", "NUM_CLASSES: found 3, but dataset 'tiny' needs 2"),
        ("MODEL.WEIGHTS data/w.pth", "data/w.pth: the weights do not match the model"),
        ("--eval-only MODEL.WEIGHTS data/v.pth", "v.pth: the weights do not match the model"),
        ("MODEL.MASK_ON True WSIS.SUPERVISION proxy", "boxes.json has no info.wsis"),
    ],
)
def test_bad_keys_and_weights_are_refused_in_one_line(tmp_path, data, refused, words, text):
    torch.save({"x": torch.zeros(1)}, data / "w.pth")
    torch.save({"backbone.fpn_lateral2.weight": torch.zeros(16, 8, 1, 1)}, data / "v.pth")
    tested = {"DATASETS__TEST": ["tiny"]} if "--eval-only" in words else {}
    assert text in refused(write_config(tmp_path, data, **tested), *words.split())
