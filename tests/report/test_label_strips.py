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
from tests.methods.irn.tiny import NETWORK as IRN_KEYS
from tests.report.pages import write_maps
from tests.tiny import SIZE
from wsis.data.source import load_source
from wsis.report.strip import TITLES


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
    assert status == 2 and "expected BANAClassifier or IRN" in error


@pytest.fixture
def chain(tmp_path, tool) -> Callable[..., Ended]:
    """``chain(words...)``: how the tool ended with the score maps and labels of tags."""
    labels, data = write_label_pair(tmp_path), tmp_path / "data"
    source = load_source(data / "boxes.json", data)
    folders = {name: write_maps(tmp_path / name, source, name) for name in ("cam", "bas")}

    def run(*words, maps=("cam", "edges", "bas")):
        given = ["--json", data / "boxes.json", "--images", data, "--output", tmp_path / "strips"]
        given += ["--maps", *(f"{n}={folders[n]}" if n in folders else n for n in maps)]
        return tool("label_strips", *given, "--labels", f"label={labels / 'y_crf'}", *words)

    return run


def test_a_strip_of_the_semantic_chain(chain, tmp_path) -> None:
    cfg = make_cfg(IRN_KEYS)
    torch.save(build_model(cfg).state_dict(), tmp_path / "w.pth")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(yaml.safe_load(cfg.dump())))
    model = ("--config-file", tmp_path / "c.yaml", "MODEL.WEIGHTS", tmp_path / "w.pth")
    for maps, order in (
        (("cam", "edges", "bas"), "image, cam, edges, bas, label"),
        (("bas", "cam"), "image, edges, bas, cam, label"),
    ):
        status, printed, error = chain("--count", 1, *model, maps=maps)
        assert (status, error) == (0, "")
        assert columns(printed.strip()) == 5
        with Image.open(printed.strip()) as strip:
            assert strip.info[TITLES] == order
    status, printed, _ = chain("--count", 1, maps=("cam",))
    assert status == 0 and columns(printed.strip()) == 3


def test_maps_that_are_not_there_are_one_line(chain, tmp_path) -> None:
    (tmp_path / "bas/bas/3.npz").unlink()
    for words, maps, message in (
        ((), ("cam", "edges"), "--maps: 'edges' needs --config-file"),
        ((), ("cam", "bas"), "bas/3.npz: no such file of score maps"),
        ((), ("cam", "x"), "--maps: found 'x', expected NAME=DIR or background attention or edges"),
        (("--labels", f"cam={tmp_path}"), ("cam",), "'cam' names two columns of a strip"),
        (("--maps", f"image={tmp_path}"), (), "'image' names two columns of a strip"),
        (("--maps", f"m={tmp_path}"), (), "no manifest.json beside this folder"),
    ):
        status, _, error = chain("--count", 0, *words, maps=maps or ("cam",))
        assert (status, error.count("\n")) == (2, 1) and message in error
    assert not (tmp_path / "strips").exists()


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
