"""What the converter of boxes says of wrong input."""

import shutil

import numpy as np
import pytest

from tests.data import formats_trees as trees
from tests.data.converters import SCRIPTS, save, write_xml
from tests.data.formats_trees import HEIGHT, WIDTH


def _swap(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root / name


WRONG = {
    "no such file": ("cvat", lambda r: r / "gone.xml", "gone.xml: no such file or folder"),
    "no yolo": ("yolo", lambda r: r / "images", "found neither data.yaml nor text files of YOLO"),
    "torn yaml": ("yolo", lambda r: _swap(r, "y/data.yaml", "a: [1"), "cannot be read as YAML"),
    "no keys": ("yolo", lambda r: _swap(r, "y/data.yaml", "- a"), "found no keys"),
    "no names": ("yolo", lambda r: _swap(r, "y/data.yaml", "train: x\nnc: 2"), "key 'names'"),
    "names of no number": (
        "yolo",
        lambda r: _swap(r, "y/data.yaml", "names: {0: a, x: b}"),
        "key 'names'",
    ),
    "a name twice": ("yolo", lambda r: _swap(r, "y/d.yaml", "names: [a, a]"), "'a' occurs twice"),
    "no split": ("yolo", lambda r: _swap(r, "y/data.yaml", "names: [a]\nval: x"), "(there: val)"),
    "no folder": (
        "yolo",
        lambda r: _swap(r, "y/data.yaml", "names: [a]\ntrain: x"),
        "no such folder or list of images",
    ),
    "no text files": (
        "yolo",
        lambda r: [trees.yolo(r), shutil.rmtree(r / "labels")][0],
        "images without a text file, which show no object: 3",
    ),
    "only wrong lines": (
        "yolo",
        lambda r: [trees.yolo(r), *(_swap(r, f"labels/{n}.txt", "x") for n in ("a", "sub/b"))][0],
        "found no object in 3 images, expected YOLO text files with boxes; lines with something",
    ),
    "torn JSON": ("labelme", lambda r: _swap(r, "j/a.json", "{"), "a.json: not valid JSON"),
    "no labelme": ("labelme", lambda r: r / "images", "no JSON file with LabelMe's key 'shapes'"),
    "torn XML": ("cvat", lambda r: _swap(r, "a.xml", "<a"), "a.xml: not valid XML"),
    "video": (
        "cvat",
        lambda r: _swap(r, "a.xml", "<annotations><track/></annotations>"),
        "export as 'CVAT for images 1.1'",
    ),
    "VIA 3": (
        "via",
        lambda r: _swap(r, "a.json", '{"file": {}, "view": {}}'),
        "a project of VIA 3",
    ),
    "no VIA": ("via", lambda r: _swap(r, "a.json", "[]"), "not a file of VIA's"),
    "no column": ("openimages", lambda r: _swap(r, "a.csv", "ImageID,XMin\n"), "column LabelName"),
    "torn CSV": (
        "via",
        lambda r: _swap(r, "a.csv", "filename,region_shape_attributes,region_attributes\na,{,\n"),
        "a.csv line 2: the attributes of a region are not JSON",
    ),
    "labelme for yolo": ("yolo", trees.labelme, "it looks like --from labelme"),
    "yolo for labelme": ("labelme", trees.yolo, "it looks like --from yolo"),
    "via for labelme": ("labelme", trees.via, "it looks like --from via"),
    "cvat for voc": ("voc", trees.cvat, "it looks like --from cvat"),
    "voc for cvat": ("cvat", lambda r: trees.voc(r) / "a.xml", "it looks like --from voc"),
    "openimages for via": ("via", trees.open_images, "it looks like --from openimages"),
    "coco": (
        "labelme",
        lambda r: _swap(r, "c/a.json", '{"images": [], "annotations": [], "categories": []}'),
        "it is COCO JSON already",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(root, convert, case):
    form, make, message = WRONG[case]
    status, _, _, err = convert(form, make(root))
    assert status == 2 and message in err and err.startswith("error: ")


def test_options_that_do_not_belong_together(root, convert):
    for words in (["--masks"], ["--split", "val"], ["--label-key", "x"]):
        assert f"error: {words[0]}: goes with --from " in convert("voc", trees.voc(root), *words)[3]
    assert "--zero-based: goes with" in convert("yolo", trees.yolo(root), "--zero-based")[3]
    assert "does not lie below" in convert("yolo", trees.yolo(root), "--images", root / "labels")[3]


def test_mistakes_of_xml_files_are_told_at_once(root, tool):
    save(root / "x/a.png", np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
    write_xml(root / "x/a.xml", ("nut", "one", 1, 9, 9), ("", 1, 1, 9, 9))
    words = ("--from", "voc", "--input", root / "x", "--output", root / "o.json")
    status, _, err = tool(SCRIPTS / "prepare_boxes.py", *words)
    assert status == 2 and len(err.splitlines()) == 2 and not (root / "o.json").exists()
