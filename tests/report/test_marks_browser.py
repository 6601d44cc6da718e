"""Marks in a real browser: keys, buttons, what is kept, and the way from a page to a new proxy-mask file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.report.browser import BROWSER, PATIENCE, by_id
from tests.report.pages import CARD, DRAWN, choose, counted
from wsis.data.source import load_source
from wsis.report.page import write_page

pytestmark = BROWSER

MARK = "document.querySelector('[aria-posinset=\"{}\"] .picture').dataset.mark"
NUMBER = "columns.id[rows[{}]]"


@pytest.fixture
def page(page):
    """The page without marks, which leaves none behind."""
    page.js("localStorage.clear()")
    again(page)
    yield page
    page.js("localStorage.clear()")


def again(tab) -> None:
    """Loads the page anew."""
    tab.open(tab.js("location.href"))
    tab.wait(DRAWN)


@pytest.fixture
def saved(page, tmp_path) -> Callable[[], Path]:
    """``saved()``: presses "Save marks", and where the file lies then."""

    def press() -> Path:
        page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        page.js(f"{by_id('save')}.click()")
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "marks.json").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return tmp_path / "marks.json"

    return press


def test_keys_mark_and_go_on_and_take_back(page):
    assert page.text("marks") == "0 accepted, 0 rejected"
    assert page.js(f"[{by_id('undo')}.disabled, {by_id('save')}.disabled]") == [True, True]
    page.press("a", "a", "x", "x")  # the first one goes to the masks
    assert page.text("marks") == "1 accepted, 2 rejected" and page.js(CARD) == "4"
    assert [page.js(MARK.format(i)) for i in (1, 2, 3, 4)] == ["accepted", *["rejected"] * 2, ""]
    assert page.js("document.querySelector('.card img').alt").endswith(", accepted")
    page.press("ArrowLeft", "x")
    assert page.text("marks") == "1 accepted, 1 rejected", "the same again takes the mark off"
    assert page.js(CARD) == "3"
    page.press("ArrowLeft", "a")
    assert page.text("marks") == "2 accepted, 0 rejected", "the last mark counts"
    page.press("u")
    assert page.text("marks") == "1 accepted, 1 rejected" and page.js(CARD) == "2"
    page.press("u", "u", "u", "u", "u")
    assert page.text("marks") == "0 accepted, 0 rejected" and page.js(CARD) == "1"
    page.press("End", "a")
    assert page.js(CARD) == "48" and page.text("marks") == "1 accepted, 0 rejected"
    page.press("/", "a", "x", "u", "Escape")  # letters in a text field are text
    assert page.js(f"{by_id('find')}.value") == "axu"


def test_the_enlarged_mask_is_marked_by_keys_and_buttons(page):
    large = "document.querySelector('#large .picture').dataset.mark"
    page.press("ArrowDown", "Enter", "x")
    assert "place2 of 48" in page.text("facts") and page.js(large) == ""
    page.js(f"{by_id('accept')}.click()")
    assert "place3 of 48" in page.text("facts")
    page.js(f"{by_id('reject')}.click()")
    page.press("u", "ArrowLeft")
    assert "place2 of 48" in page.text("facts") and page.js(large) == "accepted"
    page.press("Escape")
    page.wait(f"!{by_id('large')}.open")
    assert page.js(CARD) == "2" and page.text("marks") == "1 accepted, 1 rejected"
    assert [page.js(MARK.format(i)) for i in (1, 2, 3)] == ["rejected", "accepted", ""]


def test_the_key_list_names_them(page):
    page.press("?")
    keys = "[...document.querySelectorAll('#help kbd')].map((key) => key.textContent)"
    assert {"a", "x", "u"} <= set(page.js(keys))
    page.press("Escape")


def test_marks_are_a_filter(page):
    page.press("a", "a", "x", "a")
    for value, number in (("none", 45), ("accepted", 2), ("rejected", 1), ("", 48)):
        choose(page, "marked", value)
        assert counted(page) == f"{number} of 48 masks"
    choose(page, "marked", "rejected")
    assert page.js("location.hash") == "#marks=rejected"
    again(page)
    assert counted(page) == "1 of 48 masks"
    page.press("ArrowDown", "u")  # the last one, which is not among them
    assert page.text("marks") == "1 accepted, 1 rejected" and page.js(CARD) == "1"
    page.press("r")
    assert counted(page) == "48 of 48 masks"


def test_marks_are_kept_for_the_file_and_for_no_other(page, folder, tmp_path):
    page.press("a", "a", "x")
    again(page)
    assert page.text("marks") == "1 accepted, 1 rejected" and page.js(MARK.format(1)) == "accepted"
    source = load_source(folder / "proxy.json", folder)
    written = write_page(tmp_path / "worst", source, shown=1)  # by box fit, without the truth
    page.open(written.path.as_uri())
    assert page.text("marks") == "1 accepted, 1 rejected", "of masks that the page does not show"
    (folder / "other.json").write_text((folder / "proxy.json").read_text() + "\n")
    other = load_source(folder / "other.json", folder)
    page.open(write_page(tmp_path / "other", other).path.as_uri())
    assert page.text("marks") == "0 accepted, 0 rejected"


def test_a_browser_that_keeps_nothing_says_so(page, saved):
    page.js("Storage.prototype.setItem = () => { throw new Error('denied'); }")
    page.press("a", "a")
    assert page.text("marks") == "1 accepted, 0 rejected, not kept by this browser"
    may_leave = "dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    assert not page.js(may_leave), "it asks before marks are lost"
    saved()
    assert page.js(may_leave)


def test_from_the_page_to_a_new_file_and_its_page(page, folder, saved, tmp_path, tool):
    accepted, rejected = (page.js(NUMBER.format(i)) for i in (20, 21))
    page.press("ArrowDown", "End", "Home", *["ArrowRight"] * 20, "a", "x")
    marks = saved()
    source = load_source(folder / "proxy.json", folder)
    assert json.loads(marks.read_text()) == {
        "proxy": "proxy.json",
        "proxy_sha256": source.sha256,
        "accepted": [accepted],
        "rejected": [rejected],
    }
    new = tmp_path / "marked.json"
    words = ("--proxy", folder / "proxy.json", "--marks", marks, "--output", new)
    assert tool("apply_marks", *words).status == 0
    page.open(write_page(tmp_path / "new", load_source(new, folder)).path.as_uri())
    page.wait(DRAWN)
    assert page.text("marks") == "0 accepted, 0 rejected"
    columns, statuses = page.js("columns"), page.js("data.statuses")
    rows = [columns["id"].index(i) for i in (accepted, rejected)]
    assert [columns["score"][row] for row in rows] == [1, 0]
    assert statuses[columns["status"][rows[1]]] == "empty"
    assert np.isnan(np.array(columns["coverage"], dtype=float)[rows[1]])
