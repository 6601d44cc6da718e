"""The VOC 2012 / SBD converter on trees with something wrong in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.data.voc_tree import HEIGHT, SCRIPT, WIDTH, prepare, write_png, write_tree
from wsis.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def break_xml(root: Path) -> None:
    path = root / "VOCdevkit/VOC2012/Annotations/2008_000002.xml"
    path.write_text(path.read_text()[:300])


VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"
FAULTS = {
    "no VOC": (lambda r: (r / "VOCdevkit").rename(r / "x"), "Annotations: no such folder"),
    "no SBD": (lambda r: (r / SBD / "inst").rename(r / "x"), "inst: no such folder"),
    "no list": (lambda r: (r / SBD / "val.txt").unlink(), "val.txt: no such list file"),
    "empty list": (lambda r: (r / SBD / "val.txt").write_text("\n"), "val.txt: the list is empty"),
    "absent image": (
        lambda r: (r / SBD / "train.txt").write_text("2009_000001\n"),
        r"train.txt: names '2009_000001', but .* has no 2009_000001.jpg",
    ),
    "no XML": (
        lambda r: (r / VOC / "Annotations/2008_000003.xml").unlink(),
        "2008_000003.xml: no such file",
    ),
    "corrupt XML": (break_xml, "2008_000002.xml: not valid XML"),
    "unknown class": (
        lambda r: edit(r / VOC / "Annotations/2008_000003.xml", "<name>cat", "<name>kitten"),
        "2008_000003.xml: object 1: unknown class 'kitten'",
    ),
    "no number": (
        lambda r: edit(r / VOC / "Annotations/2008_000003.xml", "<xmax>60", "<xmax>wide"),
        "object 1: bndbox/xmax: found 'wide', expected a number",
    ),
    "empty box": (
        lambda r: edit(r / VOC / "Annotations/2008_000003.xml", "<xmin>1<", "<xmin>61<"),
        "object 1: box 61 1 60 40 has no pixel",
    ),
    "XML of another size": (
        lambda r: edit(r / VOC / "Annotations/2008_000003.xml", "<width>60", "<width>61"),
        "2008_000003.jpg: found 60x40 pixels, expected 61x40",
    ),
    "no JPEG": (
        lambda r: (r / VOC / "JPEGImages/2008_000003.jpg").write_bytes(b"\xff\xd8 cut"),
        "2008_000003.jpg: not a readable image",
    ),
    "PNG of another size": (
        lambda r: write_png(
            r / VOC / "SegmentationObject/2007_000033.png", np.zeros((5, 6), np.uint8)
        ),
        "SegmentationObject/2007_000033.png: the label map is 6x5 .*, the image 60x40",
    ),
    "colour PNG": (
        lambda r: Image.new("RGB", (60, 40)).save(r / VOC / "SegmentationClass/2007_000033.png"),
        "SegmentationClass/2007_000033.png: found a PNG of mode RGB, expected 8 bits",
    ),
    "unknown label": (
        lambda r: write_png(
            r / VOC / "SegmentationClass/2007_000033.png", np.full((40, 60), 21, np.uint8)
        ),
        "found the value 21, expected 0 to 20 or 255",
    ),
    "instance without class": (
        lambda r: write_png(
            r / VOC / "SegmentationClass/2007_000033.png", np.zeros((40, 60), np.uint8)
        ),
        "2007_000033.png: instance 1 has no class",
    ),
    "cut mat": (
        lambda r: (r / SBD / "inst/2008_000003.mat").write_bytes(b"MATLAB 5.0 MAT-file"),
        "inst/2008_000003.mat: cannot be read, expected a MATLAB 5 file with GTinst",
    ),
    "no mat": (
        lambda r: (r / SBD / "cls/2008_000003.mat").unlink(),
        "cls/2008_000003.mat: no such file",
    ),
    "mat of another struct": (
        lambda r: savemat(r / SBD / "cls/2008_000003.mat", {"other": {"Segmentation": 1}}),
        "cls/2008_000003.mat: cannot be read, expected a MATLAB 5 file with GTcls",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line_and_writes_no_json(root: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(root)
    with pytest.raises(DataError, match=message) as error:
        prepare(root)
    assert "\n" not in str(error.value)
    assert not (root / "voc_2012" / "annotations").exists()


def test_mat_without_category_of_an_instance(root: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[:4, :4], labels[8:, 8:] = 1, 2
    struct = {"Segmentation": labels, "Categories": np.array([[8]], dtype=np.uint8)}
    savemat(root / SBD / "inst" / "2008_000003.mat", {"GTinst": struct})
    with pytest.raises(DataError, match="no class 1..20 for instance 2"):
        prepare(root)


def test_error_of_a_worker_process_reaches_the_caller(root: Path) -> None:
    (root / VOC / "Annotations" / "2008_000003.xml").unlink()
    with pytest.raises(DataError, match="2008_000003.xml: no such file"):
        prepare(root, "--workers", "2")


def test_command_exits_with_2(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such folder" in done.stderr and "Traceback" not in done.stderr
