"""docs/config.md is what the comments say now."""

from __future__ import annotations

import importlib.util
import inspect
import types
from pathlib import Path

import pytest

from wsis.config import flatten, get_cfg
from wsis.config.document import key_comments
from wsis.errors import ConfigError

ROOT = Path(__file__).parents[2]


def run_tool(path, argv):
    spec = importlib.util.spec_from_file_location("tool", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(argv)


def test_the_page_is_current(tmp_path):
    run_tool("tools/document_config.py", ["--output", str(tmp_path / "config.md")])
    made = (tmp_path / "config.md").read_text()
    current = (ROOT / "docs" / "config.md").read_text()
    assert made == current, "run: python tools/document_config.py"


def test_every_key_of_ours_is_on_it():
    from detectron2.config import get_cfg as stock

    page = (ROOT / "docs" / "config.md").read_text()
    ours = set(flatten(get_cfg())) - set(flatten(stock()))
    assert ours
    assert [key for key in sorted(ours) if f"`{key}`" not in page] == []


def test_a_key_without_a_comment_is_refused(monkeypatch):
    module = types.ModuleType("keys")
    monkeypatch.setattr("inspect.getsource", lambda _: "    # text\n    cfg.A = 1\n    cfg.B = 2\n")
    with pytest.raises(ConfigError, match="keys: key B has no comment"):
        key_comments(module)


def test_a_crf_node_has_the_comments_of_its_keys(monkeypatch):
    module = types.ModuleType("keys")
    source = "    # W of it.\n    add_crf_keys(\n        cfg.A.CRF, 1.0, 2.0, 3.0\n    )\n"
    real = inspect.getsource
    monkeypatch.setattr("inspect.getsource", lambda m: source if m is module else real(m))
    comments = key_comments(module)
    assert comments["A.CRF.SPATIAL_WEIGHT"] == "W of it."
    assert comments["A.CRF.ITERATIONS"] == "Mean-field steps." and len(comments) == 6
    source = source.partition("\n")[2]
    with pytest.raises(ConfigError, match=r"keys: key A\.CRF\.SPATIAL_WEIGHT has no comment"):
        key_comments(module)
