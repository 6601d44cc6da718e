"""The converter of any VOC XML folder, on small trees as labelling tools leave them."""

import json

import numpy as np
import pytest

from tests.data.builders import save_turned
from tests.data.converters import EASY, HARD, HEIGHT, WIDTH, main_of, save, write_xml
from wsis.data.source import load_source
from wsis.errors import DataError

IMAGE = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def tree(tmp_path):
    """Three images in two folders, one of them without objects."""
    for name in ("b.jpg", "sub/a.PNG", "sub/c.bmp"):
        save(tmp_path / "images" / name, IMAGE)
    write_xml(tmp_path / "xml/b.xml", ("nut", 1, 1, 60, 40), ("bolt", 2.5, 3, 9, 9, HARD))
    write_xml(tmp_path / "xml/sub/a.xml", ("bolt", 11, 21, 20, 30, EASY), file_name="a.PNG")
    write_xml(tmp_path / "xml/sub/c.xml", file_name="c.bmp")
    return tmp_path


@pytest.fixture
def convert(tree, capsys):
    """``convert(more arguments...)``: exit status, document or None, standard output, errors."""

    def run(*more, images=("--images", tree / "images"), xml=tree / "xml"):
        capsys.readouterr()
        out = tree / "out/boxes.json"
        arguments = ["--xml", xml, *images, "--output", out, *more]
        status = main_of("prepare_voc_xml")([str(a) for a in arguments])
        printed = capsys.readouterr()
        document = json.loads(out.read_text()) if out.exists() else None
        assert (status == 0) == (document is not None and not printed.err)
        return status, document, printed.out, printed.err.splitlines()

    return run


def test_images_boxes_and_classes(tree, convert):
    status, document, out, errors = convert()
    assert (status, errors) == (0, [])
    assert document["images"] == [
        {"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH}
        for i, name in enumerate(("b.jpg", "sub/a.PNG", "sub/c.bmp"), start=1)
    ]
    assert document["categories"] == [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}]
    keys = ("id", "image_id", "category_id", "bbox", "difficult")
    assert [tuple(a[key] for key in keys) for a in document["annotations"]] == [
        (1, 1, 2, [0, 0, 60, 40], 0),
        (2, 1, 1, [1.5, 2, 7.5, 7], 1),
        (3, 2, 1, [10, 20, 10, 10], 0),
    ]
    assert document["annotations"][0]["area"] == 2400
    assert "3 images, 3 boxes, 1 difficult; classes: bolt, nut" in out
    assert load_source(tree / "out/boxes.json", tree / "images").class_names == ["bolt", "nut"]
    out = tree / "out/boxes.json"
    first, second = (convert() and out.read_bytes() for _ in range(2))
    assert first == second
    assert [p.name for p in (tree / "out").iterdir()] == ["boxes.json"]


def test_a_list_gives_the_order_of_the_classes(tree, convert):
    (tree / "classes.txt").write_text("nut\n\n screw\nbolt\n", encoding="utf-8-sig")
    _, document, _, _ = convert("--classes", tree / "classes.txt")
    assert [c["name"] for c in document["categories"]] == ["nut", "screw", "bolt"]
    assert [a["category_id"] for a in document["annotations"]] == [1, 3, 3]
    (tree / "classes.txt").write_text("nut\n")
    status, _, _, errors = convert("--classes", tree / "classes.txt")
    assert status == 2 and len(errors) == 1 and errors[0].endswith("(and 1 more like it)")
    assert "b.xml: object 2: name: found 'bolt', expected one of the list of 1 class" in errors[0]


def test_coordinates_from_zero(tree, convert):
    write_xml(tree / "xml/b.xml", ("nut", 0, 0, 60, 40), ("nut", 3, 4, 5, 7))
    _, document, out, _ = convert("--zero-based")
    assert [a["bbox"] for a in document["annotations"]][:2] == [[0, 0, 60, 40], [3, 4, 2, 3]]
    assert "--zero-based" not in out
    _, document, out, _ = convert()
    assert document["annotations"][0]["bbox"] == [-1, -1, 61, 41]
    assert "note: 1 box begins at 0" in out


def test_sizes_that_the_file_does_not_say_come_from_the_image(tree, convert):
    write_xml(tree / "xml/b.xml", ("nut", 1, 1, 9, 9), size=None)
    write_xml(tree / "xml/sub/a.xml", ("nut", 1, 1, 9, 9), size=(0, 0))
    _, document, _, _ = convert()
    assert {(i["width"], i["height"]) for i in document["images"]} == {(WIDTH, HEIGHT)}


@pytest.mark.parametrize(
    ("stated", "size"), [((40, 60), (40, 60)), ((60, 40), (60, 40)), (None, (40, 60))]
)
def test_rotated_photographs_have_the_size_that_the_boxes_mean(tree, convert, stated, size):
    save_turned(tree / "images/b.jpg", IMAGE, 6)
    write_xml(tree / "xml/b.xml", ("nut", 1, 1, 9, 9), size=stated)
    image = convert()[1]["images"][0]
    assert (image["width"], image["height"]) == size


@pytest.mark.parametrize(
    "name", ["C:\\photos\\a.PNG", "/photos/a.PNG", "../x/a.PNG", "gone.jpg", ""]
)
def test_a_stale_path_does_not_hide_the_image(tree, convert, name):
    write_xml(tree / "xml/sub/a.xml", ("bolt", 1, 1, 9, 9), file_name=name)
    assert convert()[1]["images"][1]["file_name"] == "sub/a.PNG"


def test_images_of_another_layout_and_of_another_suffix(tree, convert):
    (tree / "images/sub/a.PNG").rename(tree / "images/renamed.webpage")
    write_xml(tree / "xml/sub/a.xml", ("bolt", 1, 1, 9, 9), file_name="renamed.webpage")
    save(tree / "images/lonely.png", IMAGE)
    _, document, out, _ = convert()
    assert document["images"][1]["file_name"] == "renamed.webpage"
    assert "note: images without an XML file, which are left out: 1, the first is lonely.png" in out


def test_images_beside_their_xml_files(tree, convert):
    write_xml(tree / "images/b.xml", ("nut", 1, 1, 9, 9))
    _, document, _, _ = convert(images=(), xml=tree / "images")
    assert [i["file_name"] for i in document["images"]] == ["b.jpg"]


def test_all_mistakes_at_once_and_nothing_written(tree, convert):
    (tree / "xml/torn.xml").write_text("<annotation><obj")
    write_xml(tree / "xml/gone.xml", ("nut", 1, 1, 9, 9), file_name="gone.png")
    save(tree / "images/twice.jpg", IMAGE)
    save(tree / "images/twice.png", IMAGE)
    write_xml(tree / "xml/twice.xml")
    write_xml(tree / "xml/sub/b.xml", file_name="b.jpg")  # another file's image
    write_xml(tree / "xml/sub/c.xml", file_name="c.bmp", size=(61, 40))
    (tree / "images/d.jpg").write_bytes(b"no image")
    write_xml(tree / "xml/d.xml")
    objects = ("", 1, 1, 9, 9), ("nut", "wide", 1, 9, 9)
    write_xml(tree / "xml/b.xml", *objects)
    status, document, _, errors = convert()
    assert (status, document) == (2, None)
    expected = [
        "xml/b.xml: object 1: name: found nothing",
        "xml/b.xml: object 2: bndbox/xmin: found 'wide', expected a number",
        "xml/d.xml: ",
        "xml/gone.xml: filename: found 'gone.png', but ",
        "xml/sub/b.xml: filename: image b.jpg has another XML file, ",
        "xml/sub/c.xml: ",
        "xml/torn.xml: not valid XML",
        "xml/twice.xml: filename: found '', and twice.jpg and twice.png are both named like it",
    ]
    assert len(errors) == len(expected)
    for error, text in zip(errors, expected, strict=True):
        assert error.startswith(f"error: {tree}/{text}")
    assert "d.jpg: cannot be read as an image (unknown format)" in errors[2]
    assert "c.bmp: the image is 60x40 (width x height), the annotations say 61x40" in errors[5]


@pytest.mark.parametrize("encoding", ["klingon", "base64", "gb2312", "utf-16"])
def test_an_encoding_that_cannot_be_read(tree, convert, encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation/>'
    (tree / "xml/b.xml").write_text(text)
    status, document, _, errors = convert()
    assert (status, document) == (2, None)
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {tree}/xml/b.xml: not valid XML (")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda t: (t / "classes.txt").write_text("\n"), "classes.txt: found no class"),
        (lambda t: (t / "classes.txt").write_text("a\na\n"), "classes.txt: class 'a' occurs twice"),
        (lambda t: (t / "classes.txt").unlink(), "classes.txt: cannot be read"),
        (lambda t: (t / "xml").rename(t / "gone"), "xml: no such folder"),
        (lambda t: (t / "images").rename(t / "gone"), "images: no such folder"),
        (lambda t: [p.unlink() for p in (t / "xml").rglob("*.xml")], "xml: found no XML file"),
    ],
)
def test_mistakes_of_the_command_are_one_line(tree, convert, harm, message):
    (tree / "classes.txt").write_text("nut\nbolt\n")
    harm(tree)
    with pytest.raises(DataError, match=message) as caught:
        convert("--classes", tree / "classes.txt")
    assert "\n" not in str(caught.value)
    assert not (tree / "out").exists()
