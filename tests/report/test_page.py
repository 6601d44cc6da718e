"""The report page: what stands in the file, and what refuses to become one."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import Ended
from tests.report.pages import SIZE, write_files, write_maps
from wsis.data.source import load_source
from wsis.errors import ConfigError, DataError
from wsis.evaluation import proxy_quality
from wsis.report import pictures
from wsis.report.page import WrittenPage, worst_first, write_page
from wsis.report.pictures import PICTURE_SIDE, crop_window, make_picture
from wsis.report.strip import TITLES
from wsis.structures.rle import decode_mask, encode_mask


class Tags(HTMLParser):
    """The elements of a page: ``tags`` (name, attributes), ``scripts`` (attributes, text)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[tuple[dict, str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)


class Page(NamedTuple):
    """A written page: its data, its pictures, its text."""

    written: WrittenPage
    data: dict[str, Any]
    shown: list[Any]
    text: str


def read_page(written: WrittenPage) -> Page:
    text = written.path.read_text(encoding="utf-8")
    scripts = {a["id"]: json.loads(t) for a, t in Tags(text).scripts if "id" in a}
    shown = [scripts[f"p{i}"] for i in range(sum(name.startswith("p") for name in scripts))]
    return Page(written, scripts["data"], shown, text)


@pytest.fixture
def page(tmp_path, document) -> Callable[..., Page]:
    """``page(output="out", truth=False, changed=None, ...)``: writes a page and reads it."""

    def make(output="out", *, truth=False, changed=None, **options):
        if changed is not None:
            (tmp_path / "proxy.json").write_text(json.dumps(changed))
        gt = load_source(tmp_path / "gt.json") if truth else None
        proxy = load_source(tmp_path / "proxy.json", tmp_path)
        return read_page(write_page(tmp_path / output, proxy, gt, **options))

    return make


@pytest.fixture
def visualize(tmp_path, document, tool) -> Callable[..., Ended]:
    """``visualize(words...)``: how the tool ended that was given the images."""
    words = (
        "visualize_proxy_masks",
        "--proxy",
        tmp_path / "proxy.json",
        "--output",
        tmp_path / "out",
    )
    return lambda *more: tool(*words, "--images", tmp_path, *more)


def test_the_worst_come_first_by_iou_then_by_box_fit(page):
    _, data, shown, _ = page(truth=True)
    ious = data["columns"]["iou"]
    assert data["measure"] == "IoU" and ious == sorted(ious) and len(shown) == len(ious) == 12
    data = page().data
    assert data["measure"] == "box fit" and "iou" not in data["columns"]
    assert data["columns"]["fit"] == sorted(data["columns"]["fit"])


def test_order_of_equals_and_of_masks_without_a_true_one():
    fit = np.array([0.9, 0.5, 0.9, 0.1, 0.9])
    iou = np.array([0.4, 0.4, 0.2, np.nan, 0.2])
    assert worst_first({"box_fit": fit, "mIoU": iou}).tolist() == [2, 4, 1, 0, 3]
    assert worst_first({"box_fit": fit}).tolist() == [3, 1, 0, 2, 4]


def test_numbers_are_those_of_the_evaluation(tmp_path, page):
    data = page(truth=True).data
    proxy = load_source(tmp_path / "proxy.json", tmp_path)
    quality = proxy_quality(proxy, load_source(tmp_path / "gt.json"))
    columns, overall = data["columns"], quality["overall"]
    wide = [v for v, c in zip(columns["iou"], columns["class"], strict=True) if c == 0]
    for found, expected in (
        (np.mean(columns["iou"]), overall["mIoU"]),
        (np.mean(columns["fit"]), overall["box_fit"]),
        (data["overall"]["iou"], overall["mIoU"]),
        (np.mean(wide), quality["per_class"]["wide"]["mIoU"]),
    ):
        assert found == pytest.approx(expected, abs=1e-4)
    statuses = [data["statuses"][s] for s in columns["status"]]
    expected = {s: n for s, n in quality["status"].items() if s != "crowd"}
    assert {s: statuses.count(s) for s in statuses} == expected


def test_each_card_belongs_to_its_annotation(document, page):
    by_id = {a["id"]: a for a in document["annotations"]}
    names = {image["id"]: image["file_name"] for image in document["images"]}
    _, data, shown, _ = page(truth=True)
    columns = data["columns"]
    for i, picture in enumerate(shown):
        annotation = by_id[columns["id"][i]]
        assert data["files"][columns["file"][i]] == names[annotation["image_id"]]
        assert columns["box"][i] == annotation["bbox"]
        assert columns["score"][i] == annotation["score"]
        assert decoded(picture).size == (picture["width"], picture["height"])
        code = {"size": [picture["height"], picture["width"]], "counts": picture["mask"]}
        if annotation["status"] == "empty":
            assert picture["mask"] is None and picture["ignore"] is None
        else:  # nothing is made smaller here, so that no pixel may be lost
            assert decode_mask(code).sum() == decode_mask(annotation["segmentation"]).sum()
        x0, y0, x1, y1 = picture["box"]
        assert [x1 - x0, y1 - y0] == annotation["bbox"][2:]


def decoded(picture: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture["webp"])))


def test_files_stand_in_their_order_whatever_their_masks_are_worth(tmp_path, page):
    write_files(tmp_path, images=12)
    assert page(truth=True).data["files"] == [f"{number}.png" for number in range(1, 13)]


def test_crowds_are_left_out_and_counted(document, page):
    document["annotations"][0].update(iscrowd=1, status="crowd")
    _, data, shown, _ = page(changed=document)
    assert data["crowd"] == 1 and data["total"] == len(shown) == 11


def test_a_limit_keeps_the_worst(page):
    everything = page("all", truth=True).data
    written, data, shown, _ = page(truth=True, shown=5)
    assert (written.shown, written.masks, len(shown), data["total"]) == (5, 12, 5, 12)
    assert data["columns"]["id"] == everything["columns"]["id"][:5]
    assert data["overall"] == everything["overall"]


def test_names_are_data_and_never_markup(document, page):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    document["categories"][0]["name"] = evil
    document["images"][0]["file_name"] = evil.replace("/", "") + ".png"
    document["info"] = {"description": evil}
    written, data, shown, text = page(changed=document)
    assert len(written.unreadable) == 1
    assert evil in data["classes"] and shown.count(None) == 3
    parsed = Tags(text)
    assert len(parsed.scripts) == 2 + len(shown)
    assert [code for attributes, code in parsed.scripts if "alert" in code and not attributes] == []
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert [attributes for tag, attributes in parsed.tags if tag == "img"] == [{"alt": ""}] * 2


def test_the_browser_is_told_to_run_the_pages_own_script_only(page):
    text = page(truth=True).text
    (code,) = [t for a, t in Tags(text).scripts if not a]
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy
    assert re.findall(r"https?://|\bsrc=|\bhref=\"(?!#)", text) == []


def test_the_same_input_gives_the_same_bytes_without_a_path(tmp_path, page):
    first, second = (page(name, truth=True).written.path for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()
    assert [p.name for p in first.parent.iterdir()] == ["index.html"]


def test_an_unreadable_image_leaves_the_others_alone(tmp_path, visualize):
    (tmp_path / "2.png").write_bytes(b"no image")
    status, out, error = visualize()
    assert status == 3
    assert "2.png: cannot be read as an image" in error and "12 masks" in out
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    pictures = [t for a, t in Tags(text).scripts if a.get("id", "").startswith("p")]
    assert [json.loads(t) for t in pictures].count(None) == 3


def test_the_tool_says_what_it_wrote(tmp_path, visualize):
    status, out, _ = visualize("--gt", tmp_path / "gt.json", "--limit", 7)
    assert status == 0 and "index.html: 7 of 12 masks" in out
    status, _, error = visualize("--limit", 0)
    assert status == 2 and "--limit: found 0" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--images", ""), r"of its 4 images none is there .*--images"),
        (("--images", "elsewhere"), "of its 4 images none"),
        (("--images", "no"), "no such image folder"),
        (("--proxy", "no.json"), r"no.json: cannot be read"),
        (("--proxy", "small.json"), "the annotations say"),
        (("--output", "file"), "is a file, expected a folder"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(tmp_path, document, visualize, words, message):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "file").write_text("")
    for image in document["images"]:
        image["height"] += 1
    for annotation in document["annotations"]:
        for key in {"segmentation", "ignore_segmentation"} & annotation.keys():
            annotation[key] = encode_mask(np.ones((SIZE + 1, SIZE), dtype=bool))
    (tmp_path / "small.json").write_text(json.dumps(document))
    name, value = words
    status, _, error = visualize(name, value and tmp_path / value)
    assert status == 2 and re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_keeps_the_page_that_was_there(page, monkeypatch):
    path = page(truth=True).written.path
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("wsis.structures.proxy_file.os.fsync", full)
    with pytest.raises(DataError, match=r"index.html: cannot be written \(No space left"):
        page()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]


@pytest.fixture
def strips(tmp_path):
    """A strip of image 2, 3000 pixels wide."""
    text = PngInfo()
    text.add_text(TITLES, "image, </script>boxes")
    (tmp_path / "strips").mkdir()
    pixels = np.zeros((300, 3000, 3), dtype=np.uint8)
    pixels[:, 1500:] = 200
    Image.fromarray(pixels).save(tmp_path / "strips/2.png", pnginfo=text)
    return tmp_path / "strips"


def test_strips_stand_in_the_page_once_for_each_image(strips, tmp_path, visualize):
    status, out, _ = visualize("--strips", strips)
    assert status == 0 and "12 masks in 4 images, 1 with a strip, by box fit" in out
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    scripts = {a["id"]: json.loads(t) for a, t in Tags(text).scripts if "id" in a}
    number = scripts["data"]["files"].index("2.png")
    assert scripts["data"]["strips"] == [int(i == number) for i in range(4)]
    assert [name for name in scripts if name.startswith("s")] == [f"s{number}"]
    strip = scripts[f"s{number}"]
    assert strip["titles"] == "image, </script>boxes"
    image = decoded(strip)
    assert image.size == (strip["width"], strip["height"]) == (1600, 160)
    assert np.asarray(image)[80, 400].max() < 10 < 190 < np.asarray(image)[80, 1200].min()


def test_score_maps_are_strips_of_a_picture_for_each_image(tmp_path, document, visualize):
    source = load_source(tmp_path / "proxy.json", tmp_path)
    folders = [write_maps(tmp_path / name, source, name) for name in ("cam", "bas")]
    (tmp_path / "2.png").write_bytes(b"no image")
    maps = [f"{folder.name}={folder}" for folder in folders]
    status, out, _ = visualize("--maps", *maps)
    assert status == 3 and "12 masks in 4 images, 3 with a strip" in out
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    scripts = {a["id"]: json.loads(t) for a, t in Tags(text).scripts if "id" in a}
    strips = [value for name, value in scripts.items() if name.startswith("s")]
    assert [strip["titles"] for strip in strips] == ["image, cam, bas"] * 3
    assert decoded(strips[0]).size[0] == 3 * (3 * SIZE + 4) + 4
    for words, message in (
        (["--strips", tmp_path], "--strips: expected one of --strips and --maps"),
        (["--maps", "cam"], "--maps: found 'cam', expected NAME=DIR"),
    ):
        status, _, error = visualize("--maps", *maps, *words)
        assert status == 2 and message in error


def test_strips_of_other_images_or_broken_ones_are_refused(strips, tmp_path, page):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"out: of the 4 images none has a strip here .*1\.png\)"):
        page(strips=tmp_path / "out")
    (strips / "2.png").write_bytes(b"no strip")
    with pytest.raises(DataError, match="2.png: cannot be read as a strip"):
        page(strips=strips)
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_are_no_utf8_do_not_end_it(tmp_path, document):
    half = "caf\udce9"
    document["categories"][0]["name"] = half
    document["info"] = {"description": half, "wsis": {}}
    (tmp_path / f"{half}.json").write_text(json.dumps(document))
    source = load_source(tmp_path / f"{half}.json", tmp_path)
    data = read_page(write_page(tmp_path / "out", source)).data
    assert half in data["classes"] and (data["title"], data["origin"]) == ("caf?.json", "caf?")


def test_what_a_killed_run_left_of_the_page_is_removed(tmp_path, page):
    (tmp_path / "out").mkdir()
    for name in (".index.html.a1b2c3d4", ".index.html.mine", "index.html.a1b2c3d4"):
        (tmp_path / "out" / name).write_text("")
    page()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"index.html", ".index.html.mine", "index.html.a1b2c3d4"}


def test_a_file_without_annotations_has_a_page(document, page):
    _, data, shown, _ = page(changed={**document, "annotations": []})
    assert shown == [] and data["total"] == 0 and data["overall"]["fit"] is None


def test_without_jinja2_one_line_says_what_to_install(page, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"Jinja2 .*wsis\[report\]"):
        page()


@pytest.mark.parametrize(
    ("boxes", "rows", "columns"),
    [
        ([[40, 40, 60, 50]], (30, 60), (35, 65)),  # 20 wide: 20 * 1.4 + 2 = 30
        ([[0, 40, 20, 50]], (30, 60), (0, 30)),  # moved inwards
        ([[40, 40, 45, 45], [55, 45, 60, 50]], (30, 60), (35, 65)),  # around both
        ([[-9, -9, 999, 999]], (0, 90), (0, 100)),  # no more than the image
        ([[50, 50, 50, 50]], (48, 52), (48, 52)),  # a box without area
        ([[120, 95, 130, 99]], (86, 90), (96, 100)),  # outside of the image
    ],
)
def test_window_of_a_picture(boxes, rows, columns):
    window = crop_window([np.array(b, dtype=float) for b in boxes], 90, 100)
    assert [(s.start, s.stop) for s in window] == [rows, columns]


def test_a_large_picture_is_made_smaller_with_its_masks():
    mask = np.zeros((900, 1200), dtype=bool)
    mask[100:500, 200:1000] = True
    box = np.array([200.0, 100.0, 1000.0, 500.0])
    masks = {"mask": encode_mask(mask), "truth": None}
    window = slice(0, 900), slice(0, 1200)
    picture = make_picture(np.zeros((900, 1200, 3), dtype=np.uint8), box, masks, window)
    assert (picture["width"], picture["height"]) == (PICTURE_SIDE, 192)
    assert picture["truth"] is None
    small = decode_mask({"size": [192, PICTURE_SIDE], "counts": picture["mask"]})
    share = PICTURE_SIDE / 1200
    assert small.sum() == pytest.approx(mask.sum() * share**2, rel=0.02)
    assert picture["box"] == pytest.approx(box * share, abs=0.06)


def test_each_image_is_read_once(page, monkeypatch):
    read, advanced = [], []
    original = pictures.read_image
    monkeypatch.setattr(
        pictures, "read_image", lambda path, *size: (read.append(path), original(path, *size))[1]
    )
    page(progress=lambda n: lambda: advanced.append(n))
    assert len(read) == len(set(read)) == 4 and advanced == [4] * 4
