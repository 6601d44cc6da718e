"""docs/config.md is what the docstrings say now."""

from __future__ import annotations

import importlib.util
from itertools import chain
from pathlib import Path

import pytest

from wsis.config import flatten, get_cfg
from wsis.config.document import document, sections
from wsis.config.params import Key
from wsis.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "config.md").read_text()
KEYS = list(chain(*sections().values()))


def run_tool(path, argv):
    spec = importlib.util.spec_from_file_location("tool", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(argv)


def test_the_page_is_current(tmp_path):
    run_tool("tools/document_config.py", ["--output", str(tmp_path / "config.md")])
    made = (tmp_path / "config.md").read_text()
    assert made == PAGE, "run: python tools/document_config.py"


def test_every_key_of_ours_is_on_it():
    from detectron2.config import get_cfg as stock

    ours = set(flatten(get_cfg())) - set(flatten(stock()))
    assert ours
    assert [key for key in sorted(ours) if f"`{key}`" not in PAGE] == []


def test_every_text_is_a_whole_sentence():
    assert [k.name for k in KEYS if not (k.text[:1].isupper() and k.text.endswith("."))] == []


def test_a_key_without_a_text_is_refused(monkeypatch):
    monkeypatch.setattr("wsis.config.document.keys_of", lambda *_: [Key("A.B", 1, "")])
    with pytest.raises(ConfigError, match=r"key A\.B has no text"):
        document()


def test_keys_of_a_part_end_in_its_sentence():
    texts = {key.name.removeprefix("MODEL.BANA.CRF."): key.text for key in KEYS}
    assert texts["ITERATIONS"] == "Number of mean-field steps. This CRF makes Y_crf."
    assert texts["SPATIAL_WEIGHT"].endswith(" kernel. This CRF makes Y_crf.")
