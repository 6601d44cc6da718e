"""A browser, and a report page in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.report.browser import Browser
from tests.report.pages import DRAWN, write_files
from wsis.data.source import load_source
from wsis.report.page import write_page


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def tab(chromium):
    """The browser's tab, at its usual size."""
    chromium.resize(1100, 800)
    chromium.scheme("light")
    return chromium


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The files of :func:`write_files` for 48 masks, and ``out`` with their page."""
    path = tmp_path_factory.mktemp("page")
    write_files(path, images=16)
    write_page(path / "out", load_source(path / "proxy.json", path), load_source(path / "gt.json"))
    return path


@pytest.fixture
def page(tab, folder):
    """The page, just opened; every test must leave the console silent."""
    tab.open((folder / "out" / "index.html").as_uri())
    tab.wait(DRAWN)
    yield tab
    assert tab.complaints() == []


@pytest.fixture
def show(tab, tmp_path) -> Callable[..., None]:
    """``show(document, shown=...)``: opens the page of a proxy-mask file."""

    def opened(document, **options):
        (tmp_path / "proxy.json").write_text(json.dumps(document))
        source = load_source(tmp_path / "proxy.json", tmp_path)
        tab.open(write_page(tmp_path / "out", source, **options).path.as_uri())

    return opened


@pytest.fixture
def document(tmp_path) -> dict[str, Any]:
    """What is in ``proxy.json``, beside its images and ``gt.json``."""
    return write_files(tmp_path)
