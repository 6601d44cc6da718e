"""Image files whose names the annotation file spells otherwise, and folders as people have them."""

import logging
import os

import pytest
from PIL import Image

from tests.data.builders import coco, write_json
from wsis.data.folders import expand_patterns
from wsis.data.image_checks import check_image_files
from wsis.data.image_names import FolderIndex
from wsis.data.source import load_source
from wsis.errors import DataError

FILES = (
    "a b.png",
    "c.JPG",
    "Ku\u0308he.png",
    "sub/d.png",
    "x/e.png",
    "y/e.png",
    "e2.png",
    "E2.png",
)


@pytest.fixture
def root(tmp_path):
    """A folder with all FILES."""
    for name in FILES:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (12, 10)).save(path, format="PNG")
    return tmp_path / "images"


NAMES = {
    "images\\a b.png": "a b.png",
    "a%20b.png": "a b.png",
    "images/a b.png": "a b.png",
    "./a b.png": None,  # as the system reads it
    "c.jpg": "c.JPG",
    "K\u00fche.png": "Ku\u0308he.png",
    "..\\..\\label-studio\\media\\upload\\4\\d.png": "sub/d.png",
    "/data/upload/4/c.JPG": "c.JPG",
    "C:\\photos\\sub\\d.png": "sub/d.png",
    "/data/local-files/?d=photos%5Csub%5Cd.png": "sub/d.png",
    "https://host/photos/a%20b.png": "a b.png",
    "https://host/photos/c.jpg?sig=1": "c.JPG",
    " a+b.png ": "a b.png",
    "photos/d.jpeg": "sub/d.png",
    "d": "sub/d.png",
    "e2.PNG": None,
    "e.png": None,
    "photos/x/e.png": "x/e.png",
    "gone.png": None,
}


@pytest.mark.parametrize(("stated", "found"), NAMES.items())
def test_names_in_another_spelling(root, tmp_path, caplog, stated, found):
    image = {"id": 1, "file_name": stated, "height": 10, "width": 12}
    path = write_json(tmp_path / "a.json", coco({"bbox": [1, 1, 4, 4]}, images=[image]))
    with caplog.at_level(logging.WARNING):
        source = load_source(path, root)
    assert source.images[0]["file_name"] == (found or stated)
    text = f"1 image name is spelt otherwise than in {root}, the first: {stated!r} is {found!r}"
    assert caplog.messages == ([f"{path}: {text}"] if found else [])
    if found:
        check_image_files(source)


def test_a_file_is_of_one_entry_only(root, tmp_path):
    names = "p/a b.png", "q/a b.png", "c.JPG", "C.jpg"
    images = [{"id": i, "file_name": n, "height": 10, "width": 12} for i, n in enumerate(names)]
    source = load_source(write_json(tmp_path / "a.json", coco(images=images)), root)
    assert [image["file_name"] for image in source.images] == list(names)


def test_no_image_at_all_is_an_error_that_says_what_is_there(root, tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 10, "width": 12} for i in (1, 2)]
    source = load_source(write_json(tmp_path / "a.json", coco(images=images)), root)
    with pytest.raises(
        DataError, match=r"none of its 2 images can be read.*1\.jpg.*has 8 images, such"
    ):
        check_image_files(source, tolerate_unreadable=True)


def test_linked_folders_and_suffixes_of_a_folder(root, tmp_path, caplog):
    for name in ("web.jfif", "c.avif", "d.JPE", "e.pnm", "notes.txt", "data", ".hidden"):
        (root / "x" / name).touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "z.png").touch()
    os.symlink(elsewhere, root / "link")
    os.symlink(root, root / "sub/loop")
    with caplog.at_level(logging.WARNING):
        found = [path.relative_to(root).as_posix() for path in expand_patterns([str(root)])]
    more = ("x/web.jfif", "x/c.avif", "x/d.JPE", "x/e.pnm", "link/z.png")
    assert sorted(found) == sorted((*FILES, *more))
    assert "2 files are left out, by the suffix no image: .txt, none; name a file" in caplog.text
    assert FolderIndex(root).find("z.PNG") == "link/z.png"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    with pytest.raises(
        DataError, match=r"texts: no image in this folder.*; 1 file is left out.*\.txt"
    ):
        expand_patterns([str(tmp_path / "texts")])
