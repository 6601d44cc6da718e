"""``tools/label_strips.py`` as a user calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.modeling import build_model
from PIL import Image

from tests.conftest import Ended
from tests.methods.bana.tiny_segmentor import make_cfg, write_label_pair
from tests.tiny import SIZE


@pytest.fixture
def strips(tmp_path, tool) -> Callable[..., Ended]:
    """``strips(words...)``: how the tool ended on the tiny dataset and its labels."""
    labels, data = write_label_pair(tmp_path), tmp_path / "data"

    def run(*words, names=("y_crf", "y_ret")):
        given = ["--json", data / "boxes.json", "--images", data, "--output", tmp_path / "strips"]
        given += ["--labels", *(f"{name}={labels / name}" for name in names), "--count", 2]
        return tool("label_strips", *given, *words)

    return run


def columns(path) -> float:
    """Number of pictures of 192 px in a strip."""
    with Image.open(path) as strip:
        return (strip.width - 4) / (3 * SIZE + 4)


def test_a_strip_of_labels(strips, tmp_path) -> None:
    status, printed, error = strips()
    assert (status, error) == (0, "")
    assert [Path(line).name for line in printed.splitlines()] == ["1.png", "4.png"]
    assert columns(tmp_path / "strips" / "1.png") == 5


def test_with_the_background_attention_of_a_classifier(strips, tmp_path) -> None:
    cfg = make_cfg(MODEL__META_ARCHITECTURE="BANAClassifier")
    torch.save(build_model(cfg).state_dict(), tmp_path / "w.pth")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(yaml.safe_load(cfg.dump())))
    words = ("--config-file", tmp_path / "c.yaml", "MODEL.WEIGHTS", tmp_path / "w.pth")
    status, printed, error = strips(*words)
    assert (status, error) == (0, "")
    assert columns(printed.splitlines()[0]) == 6
    status, _, error = strips(*words, "MODEL.META_ARCHITECTURE", "BANASegmentor")
    assert status == 2 and "expected BANAClassifier" in error


def test_mistakes_are_one_line(strips, tmp_path) -> None:
    status, _, error = strips(names=("y_crf", "gone"))
    assert status == 2 and "gone" in error and error.count("\n") == 1
    for words, message in (
        (("--count", "-1"), "--count: found -1, expected at least 0"),
        (("--labels", "y_crf"), "--labels: found 'y_crf', expected NAME=DIR"),
        (("--labels", "=x"), "--labels: found '=x', expected NAME=DIR"),
        (("--labels", "a=x", "a=y"), "--labels: the name 'a' occurs twice"),
        (("--json", tmp_path / "gone.json"), "gone.json: cannot be read (No such file"),
        (("SEED", "1"), "'SEED': config keys need --config-file"),
    ):
        status, _, error = strips(*words)
        assert (status, error.count("\n")) == (2, 1) and message in error
    assert not (tmp_path / "strips").exists()


def test_an_unreadable_image_is_status_3(strips, tmp_path) -> None:
    (tmp_path / "data" / "4.png").write_bytes(b"no image")
    status, printed, error = strips()
    assert status == 3 and "4.png: cannot be read" in error and error.count("\n") == 1
    assert [Path(line).name for line in printed.splitlines()] == ["1.png"]
