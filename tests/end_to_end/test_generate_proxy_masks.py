"""``tools/generate_proxy_masks.py`` as a user calls it."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.noise import make_opts, write_data, write_json

TOOL = Path(__file__).parents[2] / "tools" / "generate_proxy_masks.py"
NO_WEIGHTS = {"MODEL__META_ARCHITECTURE": "FilledBox", "MODEL__WEIGHTS": ""}

Tool = Callable[..., tuple[int, str]]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Folder with five images and ``boxes.json``."""
    write_data(tmp_path / "noise", images=5)
    return tmp_path / "noise"


@pytest.fixture
def tool(monkeypatch, capsys) -> Tool:
    """``tool(words...)``: runs the tool here; returns exit status and the error, if it ends in one."""

    def run(*words: Any) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOL), run_name="__main__")
        lines = capsys.readouterr().err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert errors == lines[-1:] or not errors, "the error is one line, and the last"
        return ended.value.code, errors[0] if errors else ""

    return run


def test_makes_masks_and_is_finished_at_once_the_second_time(tmp_path, noise, tool):
    opts = make_opts(noise, tmp_path / "out")
    assert tool(*opts) == (0, "")
    made = (tmp_path / "out/proxy/noise.json").read_bytes()
    assert len(json.loads(made)["annotations"]) == 10
    assert tool(*opts) == (0, "")
    assert tool("--resume", *opts) == (0, "")
    assert (tmp_path / "out/proxy/noise.json").read_bytes() == made


def test_an_unreadable_image_is_exit_status_3(tmp_path, noise, tool):
    kept = (noise / "2.png").read_bytes()
    (noise / "2.png").write_bytes(kept[:99])
    opts = make_opts(noise, tmp_path / "out", **NO_WEIGHTS)
    assert tool(*opts) == (3, "")
    document = json.loads((tmp_path / "out/proxy/noise.json").read_text())
    assert {a["image_id"] for a in document["annotations"] if a["status"] == "failed"} == {2}
    (noise / "2.png").write_bytes(kept)
    assert tool("--resume", *opts) == (0, "")


def test_other_settings_are_exit_status_2_and_named(tmp_path, noise, tool):
    assert tool(*make_opts(noise, tmp_path / "out"))[0] == 0
    status, error = tool("--resume", *make_opts(noise, tmp_path / "out", SEED=2))
    assert status == 2
    assert "SEED: 1 -> 2" in error


def test_an_unfinished_run_needs_resume(tmp_path, noise, tool):
    opts = make_opts(noise, tmp_path / "out", **NO_WEIGHTS)
    tool(*opts)
    made = (tmp_path / "out/proxy/noise.json").read_bytes()
    (tmp_path / "out/proxy/noise.json").unlink()
    status, error = tool(*opts)
    assert (status, "--resume" in error) == (2, True)
    assert tool("--resume", *opts) == (0, "")
    assert (tmp_path / "out/proxy/noise.json").read_bytes() == made


def _cut(noise: Path) -> None:
    text = (noise / "boxes.json").read_text()
    (noise / "boxes.json").write_text(text[: len(text) // 2])


def _change(key: str, value: Any) -> Callable[[Path], None]:
    def change(noise: Path) -> None:
        document = json.loads((noise / "boxes.json").read_text())
        document["annotations"][0][key] = value
        write_json(noise, document)

    return change


def _resize(noise: Path) -> None:
    document = json.loads((noise / "boxes.json").read_text())
    document["images"][0]["width"] += 1
    write_json(noise, document)


def _other_weights(noise: Path) -> None:
    torch.save({"model": {"other": torch.tensor(1.0)}}, noise / "weights.pth")


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (lambda noise: (noise / "boxes.json").unlink(), {}, "boxes.json: cannot be read"),
        (lambda noise: shutil.move(noise, noise / "../gone"), {}, "boxes.json: cannot be read"),
        (_cut, {}, "boxes.json: not valid JSON"),
        (lambda noise: write_json(noise, []), {}, "boxes.json: found a list"),
        (_change("bbox", [1, 2, float("nan"), 3]), {}, "annotation 100: key 'bbox'"),
        (_change("bbox", [90, 0, 5, 5]), {"DATASETS__BAD_BOX": "error"}, "lies wholly outside"),
        (_change("category_id", 77), {}, "annotation 100: key 'category_id'"),
        (_resize, {}, "1.png: the image is 32x24 (width x height), the annotations say 33x24"),
        (_change("segmentation", [[1, 2]]), {"PROXY__KEEP_TRUE_MASKS": True}, "annotation 100"),
        (_other_weights, {}, "weights.pth: the weights do not match"),
        (lambda noise: None, {"MODEL__WEIGHTS": "gone.pth"}, "MODEL.WEIGHTS: gone.pth"),
        (lambda noise: None, {"MODEL__WEIGHTS": ""}, "MODEL.WEIGHTS: found nothing"),
        (lambda noise: None, {"PROXY__NUM_WORKER": 1}, "did you mean PROXY.NUM_WORKERS"),
        (lambda noise: None, {"PROXY__NUM_WORKERS": -5}, "PROXY.NUM_WORKERS: found -5"),
        (lambda noise: None, {"DATASETS__TRAIN": ("nope",)}, "no dataset is named 'nope'"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_written(
    tmp_path, noise, tool, spoil, changes, message
):
    opts = make_opts(noise, tmp_path / "out", **changes)
    spoil(noise)
    status, error = tool(*opts)
    assert status == 2
    assert message in error
    assert not (tmp_path / "out").exists()
