"""docs/config.md is what the docstrings say now."""

from itertools import chain
from pathlib import Path

import pytest

from wsis.config import flatten, get_cfg, stock_cfg
from wsis.config.document import document, sections
from wsis.config.params import Key
from wsis.errors import ConfigError

PAGE = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
KEYS = list(chain(*sections().values()))


def test_the_page_is_current(tmp_path, tool):
    tool("document_config", "--output", tmp_path / "config.md")
    made = (tmp_path / "config.md").read_text()
    assert made == PAGE, "run: python tools/document_config.py"


def test_every_key_of_ours_is_on_it_with_a_whole_sentence():
    ours = set(flatten(get_cfg())) - set(flatten(stock_cfg()))
    assert ours and not [key for key in ours if f"`{key}`" not in PAGE]
    assert [k.name for k in KEYS if not (k.text[:1].isupper() and k.text.endswith("."))] == []


def test_a_key_without_a_text_is_refused(monkeypatch):
    monkeypatch.setattr("wsis.config.document.keys_of", lambda *_: [Key("A.B", 1, "")])
    with pytest.raises(ConfigError, match=r"key A\.B has no text"):
        document()


def test_keys_of_a_part_end_in_its_sentence():
    texts = {key.name.removeprefix("MODEL.BANA.CRF."): key.text for key in KEYS}
    assert texts["ITERATIONS"] == "Number of mean-field steps. This CRF makes Y_crf."
    assert texts["SPATIAL_WEIGHT"].endswith(" kernel. This CRF makes Y_crf.")
