"""The command `wsis`: every tool and converter by one word, and one line for a word that is none."""

from __future__ import annotations

import importlib.util
import sys

import pytest

import wsis_command
from tests.conftest import TOOLS

ROOT = TOOLS.parent
KNOWN = wsis_command.commands(ROOT)


@pytest.fixture
def command(capsys, monkeypatch):
    """``command(words...)``: exit status, output and errors."""
    monkeypatch.setattr(sys, "argv", sys.argv)

    def call(*words: object) -> tuple[int, str, str]:
        status = 0
        try:
            wsis_command.main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code or 0
        return (status, *capsys.readouterr())

    return call


def test_every_script_has_words(command):
    scripts = {*TOOLS.glob("*.py"), *ROOT.glob("datasets/prepare_*.py")}
    left_out = {TOOLS / f"{name}.py" for name in wsis_command.NOT_SHIPPED}
    assert set(KNOWN.values()) == scripts - left_out
    status, out, _ = command("--help")
    assert status == 0 and command()[:2] == (0, out)
    assert [line.split("  ")[1] for line in out.splitlines()[4:-1]] == list(KNOWN)
    status, out, _ = command("prepare", "--help")
    of_prepare = [name for name in KNOWN if name.startswith("prepare ")]
    assert status == 0
    assert [line.split("  ")[1] for line in out.splitlines()[4:-1]] == of_prepare
    assert "configs [WORD]" in command("configs", "--help")[1]


@pytest.mark.parametrize("words", KNOWN)
def test_a_command_is_the_script(words, command):
    assert wsis_command.find(KNOWN, [*words.split(), "--x"]) == (words, KNOWN[words])


def test_masks_with_marks_are_those_of_another_tool():
    words = ["masks", "--proxy", "p.json", "--marks", "m.json", "--output", "new.json"]
    assert wsis_command.find(KNOWN, words) == ("masks", TOOLS / "apply_marks.py")
    words = ["masks", "--json", "marks.json", "--images", "i"]
    assert wsis_command.find(KNOWN, words) == ("masks", KNOWN["masks"])


def test_words_reach_the_tool(command, data, tmp_path):
    status, out, _ = command("check", "--json", data / "boxes.json", "--images", data)
    assert status == 0 and "4 read" in out
    status, _, err = command("masks", "--config-file", "baselines/grabcutt.yaml")
    assert status == 2 and "did you mean baselines/grabcut.yaml" in err
    shapes = ["--size", 64, "--train", 2, "--val", 1, "--output", tmp_path / "shapes"]
    assert command("prepare", "shapes", *shapes)[0] == 0
    assert (tmp_path / "shapes/annotations/shapes_train.json").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mask"], "error: wsis mask: no such command; did you mean masks, marks?"),
        (["prepare"], "error: wsis prepare: no such command; did you mean prepare boxes, prepare"),
        (["prepare", "box"], "did you mean prepare boxes"),
        (["xyz"], "error: wsis xyz: no such command; wsis --help lists all"),
    ],
)
def test_a_word_that_is_none_is_one_line(words, said, command):
    status, out, err = command(*words)
    assert (status, out) == (2, "") and said in err and err.count("\n") == 1


def test_names_of_configs(command):
    _, out, _ = command("configs", "BASELINES")
    found = [f"baselines/{name}.yaml" for name in ("box_crf", "ellipse", "filled_box", "grabcut")]
    assert out.splitlines() == found


def test_without_detectron2_it_says_how_to_get_it(command, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "detectron2" else found(name)
    )
    assert command("check")[0::2] == (
        2,
        "error: Detectron2 is not installed: run wsis install-detectron2\n",
    )
    assert command("install-detectron2", "--help")[0] == 0
