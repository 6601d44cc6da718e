"""A browser, and a report page in it."""

from __future__ import annotations

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
