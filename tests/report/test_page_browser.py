"""The report page in a real browser: what is drawn, filters, keys, ten thousand masks."""

from __future__ import annotations

import json
from urllib.parse import quote

import numpy as np
import pytest

from tests.report.browser import BROWSER, by_id
from tests.report.pages import CARD, DRAWN, SIZE, choose, counted, shown
from wsis.data.source import load_source
from wsis.report import page as page_module
from wsis.report.page import write_page
from wsis.report.pictures import Pictures
from wsis.report.strip import StripMaker, write_strips
from wsis.structures.pseudo_labels import write_label
from wsis.structures.rle import decode_mask, encode_mask

pytestmark = BROWSER

ORANGE = (255, 157, 30)
RIGHT = f"{by_id('large')}.getBoundingClientRect().right"
SIX = f"{by_id('count')}.textContent.startsWith('6 ')"


def test_the_page_loads_from_disk_and_asks_for_nothing_else(page, folder):
    assert page.requested() == [(folder / "out" / "index.html").as_uri()]
    assert counted(page) == "48 of 48 masks"
    values = [float(v) for v in shown(page)]
    assert values == sorted(values) and len(values) >= 12
    alternative = page.js("document.querySelector('.card img').alt")
    assert alternative.startswith("tall, annotation") and "IoU 0.000, empty" in alternative
    sizes = page.js(
        "Promise.all([...document.querySelectorAll('#cards img')].map((image) =>"
        " image.decode().then(() => image.naturalWidth)))"
    )
    assert min(sizes) > 20


def test_numbers_and_histogram_follow_the_filters(page):
    def numbers():
        texts = "[...document.querySelectorAll('#numbers {}')].map((d) => d.textContent)"
        return dict(zip(*(page.js(texts.format(kind)) for kind in ("dt", "dd")), strict=True))

    data = page.js("data")
    ious = np.array(data["columns"]["iou"])
    assert numbers()["masks"] == "48"
    assert float(numbers()["mean IoU"]) == pytest.approx(ious.mean(), abs=6e-4)
    assert numbers()["IoU ≥ 0.5"] == f"{100 * (ious >= 0.5).mean():.0f} %"
    choose(page, "class", "1")
    tall = ious[np.array(data["columns"]["class"]) == 1]
    assert float(numbers()["mean IoU"]) == pytest.approx(tall.mean(), abs=6e-4)
    label = page.js(f"{by_id('histogram')}.getAttribute('aria-label')")
    assert label.startswith("Histogram of IoU: 24 masks")
    bins = "document.querySelectorAll('.bin')"
    bars = page.js(f"[...{bins}].map((b) => parseInt(b.title.split(': ')[1]))")
    assert bars == np.histogram(tall, np.arange(21) / 20)[0].tolist()
    for count in (bars[0], 24):
        page.js(f"{bins}[0].click()")
        assert counted(page) == f"{count} of 48 masks"


def test_filters_and_order(page):
    columns = page.js("columns")
    ious, scores = np.array(columns["iou"]), np.array(columns["score"])
    reset = f"{by_id('reset')}.click()"
    choose(page, "measure-low", "0.3")
    choose(page, "measure-high", "0.6")
    chosen = (ious >= 0.3) & (ious <= 0.6)
    assert counted(page) == f"{chosen.sum()} of 48 masks"
    choose(page, "score-high", "0.5")
    assert counted(page) == f"{(chosen & (scores <= 0.5)).sum()} of 48 masks"
    page.js(reset)
    page.js("document.querySelectorAll('#statuses input')[0].click()")  # ok
    assert counted(page) == "24 of 48 masks"
    address = page.js("location.hash")
    page.js(reset)
    assert counted(page) == "48 of 48 masks" and page.js("location.hash") == ""
    page.js(f"location.hash = {address!r}")
    page.wait(f"{by_id('count')}.textContent.startsWith('24 ')")
    page.js(reset)
    choose(page, "order", "best")
    assert shown(page)[0] == f"{ious.max():.3f}"
    for words, count in (("16.PNG", 3), ("105", 1), ("nothing", 0)):
        choose(page, "find", words)
        assert counted(page) == f"{count} of 48 masks"
    assert page.text("nothing") == "No mask passes the filters."
    page.press("Enter", "Escape")
    page.js("document.activeElement.blur()")
    page.press("ArrowDown", "Enter")


def test_an_address_holds_the_filters(tab, folder):
    start = (folder / "out" / "index.html").as_uri()
    tab.open(f"{start}#class=tall&status=ok,nonsense&score=0.5-1&order=best&hide=box,nonsense")
    tab.wait(DRAWN)
    assert counted(tab) == f"{len(shown(tab))} of 48 masks"
    values = [float(v) for v in shown(tab)]
    assert 0 < len(values) < 24 and values == sorted(values, reverse=True)
    assert tab.js(f"{by_id('class')}.selectedOptions[0].text") == "tall (24)"
    assert tab.js("state.layers.box") is False
    assert tab.complaints() == []


def pixel(tab, x, y):
    """The overlay's colour on the only card, at a pixel of the picture."""
    return tab.js(
        "(() => { const canvas = document.createElement('canvas'), i = rows[0];"
        "const drawn = document.querySelector('#cards canvas');"
        "canvas.width = canvas.height = drawn.width;"
        "const pen = canvas.getContext('2d', { willReadFrequently: true });"
        "pen.drawImage(drawn, 0, 0);"
        "const place = placeOf(pictureOf(i), canvas);"
        f"const at = [place.x + ({x} + 0.5) * place.scale, place.y + ({y} + 0.5) * place.scale];"
        "return [...pen.getImageData(...at.map(Math.floor), 1, 1).data]; })()"
    )


def test_layers_are_where_the_masks_are(page, folder):
    document = json.loads((folder / "proxy.json").read_text())
    annotation = next(a for a in document["annotations"] if a["id"] == 106)  # "fallback"
    choose(page, "find", "106")
    page.wait(DRAWN)
    picture = page.js("pictureOf(rows[0])")
    size = [picture["height"], picture["width"]]
    codes = {k: decode_mask({"size": size, "counts": picture[k]}) for k in ("mask", "ignore")}
    for layer, code in codes.items():
        flat = page.js(f"[...decodeCounts(pictureOf(rows[0]).{layer}, {size[1]}, {size[0]})]")
        assert np.array_equal(np.array(flat).reshape(size[::-1]).T, code)
    assert codes["mask"].sum() == decode_mask(annotation["segmentation"]).sum()
    y, x = (int(v) for v in np.argwhere(codes["mask"]).mean(axis=0).round())
    red, green, blue, alpha = pixel(page, x, y)
    assert abs(alpha - 0.38 * 255) < 3 and np.abs(np.subtract([red, green, blue], ORANGE)).max() < 6
    page.press("ArrowDown", "1")
    page.wait(DRAWN)
    assert pixel(page, x, y)[3] == 0, "key 1 takes the mask away"
    assert page.js("location.hash").endswith("hide=mask")
    rows, columns = np.nonzero(codes["ignore"])
    y, x = int(rows.mean().round()), int(columns.mean().round())
    hatched = [pixel(page, x + dx, y)[3] > 100 for dx in range(-3, 4)]
    assert any(hatched), "ignored pixels are hatched"
    page.press("3")
    page.wait(DRAWN)
    assert not any(pixel(page, x + dx, y)[3] > 100 for dx in range(-2, 3))


@pytest.fixture(scope="module")
def with_strips(folder):
    """The page of :func:`folder`, where images 3 and 5 have a strip of seven columns."""
    source = load_source(folder / "proxy.json", folder)
    for number, image in enumerate(source.images):
        label = np.full((SIZE, SIZE), number % 3, dtype=np.uint8)
        label[20:40, 10:30] = 255
        for name in ("y_crf", "y_ret", "prediction"):
            write_label(folder / name / image["file_name"], label.T if name == "y_ret" else label)
    labels = {name: folder / name for name in ("y_crf", "y_ret", "prediction")}
    attention = np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE)
    maker = StripMaker(source, labels, {"background attention": lambda entry, image: attention})
    written = write_strips(maker, folder / "strips")
    for path in written.paths:
        if path.stem not in ("3", "5"):
            path.unlink()
    gt = load_source(folder / "gt.json")
    return write_page(folder / "with_strips", source, gt, strips=folder / "strips").path


def test_a_strip_stands_below_the_enlarged_mask(tab, with_strips):
    tab.open(with_strips.as_uri())
    tab.wait(DRAWN)
    strip = "document.querySelector('#strip img')"
    choose(tab, "find", "3.png")
    choose(tab, "order", "file")
    tab.press("ArrowDown", "Home", "Enter")
    assert tab.text("facts").startswith("place1 of 6file3.png")
    tab.wait(f"{strip}.complete && {strip}.naturalWidth > 1000")
    titles = "image, boxes, background attention, y_crf, y_ret, disagreement, prediction"
    assert tab.js(f"{strip}.alt") == f"3.png: {titles}"
    inside = (
        f"(() => {{ const d = {by_id('large')}, [s, r, p] = [{strip}, d, d.querySelector('.picture')]"
        ".map((element) => element.getBoundingClientRect());"
        "return [s.left >= r.left, s.right <= r.right, s.bottom <= r.bottom, s.top >= p.bottom,"
        " p.width > 300, d.scrollHeight <= d.clientHeight, r.bottom <= innerHeight]; })()"
    )
    assert tab.js(inside) == [True] * 7
    tab.press("ArrowRight", "ArrowRight", "ArrowRight")  # 13.png
    assert tab.js(f"{by_id('strip')}.hidden")
    tab.press("ArrowLeft")
    assert not tab.js(f"{by_id('strip')}.hidden")
    tab.resize(360, 740)
    assert tab.js(RIGHT) <= 360
    assert tab.complaints() == []


def test_masks_with_a_strip_are_a_filter(tab, with_strips):
    tab.open(with_strips.as_uri())
    tab.js("document.querySelector('#strips input').click()")
    assert counted(tab) == "6 of 48 masks" and tab.js("location.hash") == "#strip=1"
    tab.press("r")
    assert counted(tab) == "48 of 48 masks"
    tab.js("location.hash = 'strip=1'")
    tab.wait(SIX)
    assert tab.js("document.querySelector('#strips input').checked")
    assert tab.complaints() == []


def test_a_page_without_strips_says_nothing_of_them(page):
    assert page.js(f"{by_id('strips')}.hidden")
    page.press("ArrowDown", "Enter")
    assert page.js(f"{by_id('strip')}.hidden")
    page.press("Escape")


def test_narrow_and_dark(page):
    page.scheme("dark")
    page.resize(360, 740)
    page.wait("document.documentElement.scrollWidth <= 360")
    dark = page.js("getComputedStyle(document.body).backgroundColor")
    assert sum(int(v) for v in dark[4:-1].split(",")) < 120
    lefts = page.js(
        "new Set([...document.querySelectorAll('.card')].map((c) => c.offsetWidth)).size"
    )
    assert lefts == 1
    page.press("ArrowDown", "Enter")
    assert page.js(RIGHT) <= 360
    page.press("Escape")


def test_hostile_names_are_only_text(tab, show, document):
    evil = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 2'>"
    document["categories"][0]["name"] = evil
    document["images"][0]["file_name"] = evil.replace("/", "") + ".png"
    document["info"] = {"description": evil}
    show(document)
    tab.wait("document.documentElement.dataset.loaded")
    tab.press("ArrowDown", "Enter", "ArrowRight", "Escape")
    assert tab.js("window.evil") is None and tab.complaints() == []
    assert evil in tab.js("[...document.querySelectorAll('.name')].map((n) => n.textContent)")
    assert evil in tab.js("document.querySelector('.origin').textContent")
    tab.wait("document.querySelectorAll('#cards .picture.missing').length === 3")
    assert "cannot be read" in tab.js("document.querySelector('.missing img').alt")
    tab.js(f"location.hash = 'class={quote(evil)}'")
    tab.wait(SIX)


def test_the_header_says_what_is_left_out(tab, show, document):
    document["annotations"][0].update(iscrowd=1, status="crowd")
    show(document, shown=5)
    fit = tab.js("data.overall.fit.toFixed(3)")
    assert tab.js("document.querySelector('.origin').textContent") == (
        f"Shorten, wsis 1.0 · the 5 worst of 11 masks (mean box fit {fit} over all of them), "
        "1 crowd region left out"
    )


def test_without_masks_the_page_says_so(tab, show, document):
    show({**document, "annotations": []})
    tab.press("ArrowDown", "Enter", "f", "Escape", "1")
    assert tab.text("nothing") == "The file has no masks."
    assert tab.complaints() == []


def test_masks_of_another_tool_have_neither_score_nor_status(tab, show, document):
    for annotation in document["annotations"]:
        for key in ("score", "status", "ignore_segmentation", "iscrowd"):
            annotation.pop(key, None)
    del document["info"]
    show(document)
    assert tab.js("document.querySelector('#numbers div:last-child').textContent") == "mean score–"
    choose(tab, "order", "low-score")
    assert counted(tab) == "12 of 12 masks"
    choose(tab, "score-low", "0.1")
    assert counted(tab) == "0 of 12 masks" and tab.complaints() == []
    layers = "[...document.querySelectorAll('#layers label')].map((label) => label.textContent)"
    assert tab.js(layers) == ["Mask", "Box"], "there are no ignored pixels and no true masks"


def test_ten_thousand_masks(tab, show, document, monkeypatch):
    common = {"image_id": 1, "segmentation": encode_mask(np.ones((SIZE, SIZE), dtype=bool))}
    document["annotations"] = [
        {"id": i, "category_id": (3, 7)[i % 2], "bbox": [0, 0, 1 + i % 64, 64], "score": i / 10_000}
        | common
        for i in range(10_000)
    ]
    record = {"width": 1, "height": 1, "box": [0, 0, 1, 1], "webp": "", "ignore": None}
    record |= {"mask": "01", "truth": None}
    monkeypatch.setattr(  # the same picture each time: what is slow here is not what is asked
        page_module, "make_pictures", lambda *unused: Pictures([record] * 10_000, [])
    )
    show(document)
    assert counted(tab) == "10,000 of 10,000 masks"
    cards = "document.querySelectorAll('.card').length"
    assert 10 < tab.js(cards) < 120, "only the cards in view are in the page"
    tab.press("ArrowDown", "End")
    assert tab.js(CARD) == "10000"
    assert tab.js("document.activeElement.querySelector('.value').textContent") == "1.000"
    assert tab.js(cards) < 120
    tab.js("scrollTo(0, 0)")
    choose(tab, "class", "1")
    choose(tab, "score-low", "0.9")
    assert counted(tab) == "500 of 10,000 masks"
    assert tab.js(cards) < 120 and tab.complaints() == []


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
