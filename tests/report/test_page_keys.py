"""The report page's keys, in a real browser."""

from __future__ import annotations

from tests.report.browser import BROWSER, by_id
from tests.report.pages import CARD, choose, counted

pytestmark = BROWSER


def test_keys_move_enlarge_and_close(page):
    page.press("ArrowDown")
    assert page.js(CARD) == "1"
    page.press("ArrowRight", "ArrowRight")
    assert page.js(CARD) == "3"
    page.press("ArrowDown")
    below = int(page.js(CARD))
    assert below > 5
    page.press("ArrowUp", "ArrowLeft", "ArrowUp")
    assert page.js(CARD) == "2"
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter")
    assert page.js(f"{by_id('large')}.open")
    assert "place2 of 48" in page.text("facts")
    page.press("ArrowRight")
    assert "place3 of 48" in page.text("facts")
    page.press("ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert "place1 of 48" in page.text("facts")
    assert page.js(f"{by_id('previous')}.disabled")
    page.press("Escape")
    page.wait(f"!{by_id('large')}.open")
    assert page.js(CARD) == "1"
    page.press("End")
    assert page.js(CARD) == "48"
    place = "document.activeElement.getBoundingClientRect()"
    assert page.js(f"{place}.top >= 0 && {place}.bottom <= innerHeight")
    page.press("PageUp", "Home")
    assert page.js(CARD) == "1"


def test_home_and_end_where_all_masks_stand_in_one_row(page):
    choose(page, "find", "16.png")
    page.press("ArrowDown", "End")
    assert page.js(CARD) == "3"
    page.resize(530, 800)  # three in a row
    page.press("Home")
    tops = "[...document.querySelectorAll('.card')].map((c) => c.getBoundingClientRect().top)"
    assert page.js(f"new Set({tops}).size") == 1
    assert page.js(CARD) == "1"
    page.press("End")
    assert page.js(CARD) == "3"


def test_tab_reaches_the_masks_at_once_and_one_of_them_only(page):
    choose(page, "class", "1")
    page.press("Tab", "Enter")
    assert page.js(CARD) == "1" and page.js("location.hash") == "#class=tall"
    page.press("ArrowRight")
    assert page.js("document.querySelectorAll('.card button[tabindex=\"0\"]').length") == 1
    page.press("Tab")
    assert page.js("document.activeElement.closest('.card')") is None


def test_keys_jump_to_filters_and_back(page):
    focused = "document.activeElement.id"
    page.press("ArrowDown", "f")
    assert page.js(focused) == "class"
    page.press("Escape")
    assert page.js(CARD) == "1"
    page.press("/")
    assert page.js(focused) == "find"
    page.press("1", "0", "5", "r")  # letters in a text field are text
    assert page.js(f"{by_id('find')}.value") == "105r"
    page.press("Escape", "r")
    assert counted(page) == "48 of 48 masks"
    page.press("o")
    assert page.js(focused) == "order"
    page.press("Escape", "?")
    assert page.js(f"{by_id('help')}.open")
    page.press("Escape")
    page.wait(f"!{by_id('help')}.open")
