"""Converters on trees with something wrong in them, and what all of them have in common."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.data.converters import COCO, HEIGHT, NUCLEI, SBD, SCRIPTS, TREES, VOC, WIDTH, prepare
from wsis.errors import ConfigError, DataError
from wsis.structures.pseudo_labels import write_label

OUTPUT = {
    "voc2012": "voc_2012/annotations",
    "nuclei": "nuclei/annotations",
    "duts": "duts",
    "coco": "coco/annotations/instances_train2017_boxes.json",
    "cub": "cub",
    "ilsvrc_loc": "ilsvrc_loc",
    "openimages30k": "openimages30k",
}


def gone(path):
    return lambda root: (root / path).rename(root / "gone")


def emptied(path, *kept):
    return lambda root: [p.unlink() for p in (root / path).iterdir() if p.name not in kept]


def holds(path, content):
    return lambda root: (root / path).write_bytes(content)


def edited(path, old, new):
    return lambda root: (root / path).write_text((root / path).read_text().replace(old, new, 1))


def labels(path, value, size=(HEIGHT, WIDTH)):
    return lambda root: write_label(root / path, np.full(size, value, np.uint8))


def colours(path):
    return lambda root: Image.new("RGB", (WIDTH, HEIGHT)).save(root / path)


def mat(path, **variables):
    return lambda root: savemat(root / path, variables)


CAT = f"{VOC}/Annotations/2008_000003.xml"
CAT_IMAGE = f"{VOC}/JPEGImages/2008_000003.jpg"
CAT_MASKS, CAT_CLASSES = (f"{SBD}/{kind}/2008_000003.mat" for kind in ("inst", "cls"))
PLANE, PLANE_CLASSES = (f"{VOC}/Segmentation{k}/2007_000033.png" for k in ("Object", "Class"))
NO_MAT = "cannot be read, expected a MATLAB 5 file with"
TWO_INSTANCES = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
TWO_INSTANCES[:4, :4], TWO_INSTANCES[8:, 8:] = 1, 2
ONE_CLASS = {"Segmentation": TWO_INSTANCES, "Categories": np.array([[8]], dtype=np.uint8)}
NUCLEUS = f"nuclei/stage1_train/{NUCLEI[0]}"
PICTURE = f"{NUCLEUS}/images/{NUCLEI[0]}.png"
DUTS = "DUTS-TR/DUTS-TR"
CUB = "CUB_200_2011"
INSTANCES = "coco/annotations/instances_train2017.json"
NO_BOX = COCO | {"annotations": [{"id": 1, "image_id": 9, "category_id": 18}]}
FAULTS = {
    "voc2012": [
        (gone("VOCdevkit"), "Annotations: no such folder"),
        (gone(f"{SBD}/inst"), "inst: no such folder"),
        (gone(f"{SBD}/val.txt"), "val.txt: no such list file"),
        (holds(f"{SBD}/val.txt", b"\n"), "val.txt: the list is empty"),
        (holds(f"{SBD}/train.txt", b"2009_1\n"), "train.txt: names '2009_1', but .* no 2009_1.jpg"),
        (gone(CAT), "2008_000003.xml: no such file"),
        (gone(CAT), "2008_000003.xml: no such file", "--workers", "2"),
        (holds(CAT, b"<annotation><object>"), "2008_000003.xml: not valid XML"),
        (edited(CAT, "<name>cat", "<name>kit"), "2008_000003.xml: object 1: unknown class 'kit'"),
        (edited(CAT, "<xmax>60", "<xmax>x"), "bndbox/xmax: found 'x', expected a number"),
        (edited(CAT, "<xmin>1<", "<xmin>61<"), "object 1: its corners are in the wrong order"),
        (edited(CAT, "<width>60", "<width>61"), "3.jpg: found 60x40 pixels, expected 61x40"),
        (holds(CAT_IMAGE, b"\xff\xd8 cut"), "2008_000003.jpg: not a readable image"),
        (labels(PLANE, 0, (5, 6)), f"{PLANE}: the label map is 6x5 .*, the image 60x40"),
        (colours(PLANE_CLASSES), f"{PLANE_CLASSES}: found a PNG of mode RGB, expected 8 bits"),
        (labels(PLANE_CLASSES, 21), "found the value 21, expected 0 to 20 or 255"),
        (labels(PLANE_CLASSES, 0), "2007_000033.png: instance 1 has no class"),
        (holds(CAT_MASKS, b"MATLAB 5.0 MAT-file"), f"{CAT_MASKS}: {NO_MAT} GTinst"),
        (gone(CAT_CLASSES), "cls/2008_000003.mat: no such file"),
        (mat(CAT_CLASSES, other={"Segmentation": 1}), f"{CAT_CLASSES}: {NO_MAT} GTcls"),
        (mat(CAT_MASKS, GTinst=ONE_CLASS), "no class 1..20 for instance 2"),
    ],
    "nuclei": [
        (gone("nuclei"), "stage1_train: no such folder"),
        (gone(PICTURE), "images: found 0 PNG files, expected one"),
        (gone(f"{NUCLEUS}/masks"), "masks: no such folder, expected one PNG per nucleus"),
        (labels(f"{NUCLEUS}/masks/1.png", 9, (5, 5)), r"masks/1.png: .* 5x5 .* 24x16"),
        (holds(f"{NUCLEUS}/masks/1.png", b"PNG"), "masks/1.png: cannot be read as an image"),
        (holds(PICTURE, b"PNG"), "png: not a readable image"),
    ],
    "duts": [
        (gone(f"{DUTS}-Mask"), "DUTS-TR-Mask: no such folder, expected DUTS-TR-Mask"),
        (gone(f"{DUTS}-Mask/two.png"), "two.png: no such mask"),
        (emptied(f"{DUTS}-Image"), r"found no \*.jpg"),
        (emptied(f"{DUTS}-Image", "two.jpg"), "of 1 image none shows a single object"),
        (labels(f"{DUTS}-Mask/two.png", 0, (5, 5)), "two.png: the image is 5x5"),
        (holds(f"{DUTS}-Image/two.jpg", b"no image"), "two.jpg: not a readable image"),
    ],
    "cub": [
        (gone("CUB_200_2011"), "train: no such folder"),
        (gone(f"{CUB}/test_list.txt"), "test_list.txt: no such list"),
        (edited(f"{CUB}/test_list.txt", ";1", ";2"), "line 1: found label 2, expected 0 to 1"),
        (edited(f"{CUB}/test_list.txt", ";0", ""), "line 2: found '001.Auk/9.jpg', expected"),
        (edited(f"{CUB}/test_bounding_box.txt", "1.5 2.0", "1.5"), "line 2: found '1.5 21.5"),
        (holds(f"{CUB}/test_bounding_box.txt", b""), "found 0 boxes, expected .* 2 images"),
        (gone(f"{CUB}/test/002.Gull/9.jpg"), "9.jpg: no such image"),
        (holds(f"{CUB}/train/002.Gull/0.jpg", b"no"), "0.jpg: not a readable image"),
    ],
    "ilsvrc_loc": [
        (gone("ILSVRC/val_gt.txt"), "val_gt.txt: no such list"),
        (edited("ILSVRC/val_gt.txt", "n02", "n03"), "line 1: found class n03, expected a folder"),
        (edited("ILSVRC/val_gt.txt", "13 24", "13"), "line 1: found .*, expected 'wnid"),
    ],
    "openimages30k": [
        (gone("OpenImages30k/classes.txt"), "classes.txt: no such list"),
        (gone("OpenImages30k/test_mask.txt"), "test_mask.txt: no such list"),
        (gone("OpenImages30k/masks/val_1.png"), "val_1.png: no such mask"),
        (holds("OpenImages30k/masks/val_1.png", b"x"), "val_1.png: not a readable mask"),
        (edited("OpenImages30k/val_mask.txt", "val/0.jpg", "val/1.jpg"), "no mask of .* val/0.jpg"),
    ],
    "coco": [
        (gone(INSTANCES), "instances_train2017.json: no such file"),
        (holds(INSTANCES, json.dumps(COCO).encode()[:400]), "2017.json: not valid JSON"),
        (holds(INSTANCES, b"[]"), "instances_train2017.json: found a list, expected an object"),
        (holds(INSTANCES, json.dumps(NO_BOX).encode()), "annotation 1: key 'bbox': found None"),
    ],
}


@pytest.mark.parametrize(("name", "fault"), [(n, f) for n in FAULTS for f in FAULTS[n]])
def test_bad_input_is_one_line_and_writes_no_json(tmp_path, name, fault):
    damage, message, *arguments = fault
    TREES[name](tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        prepare(name, tmp_path, *arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / OUTPUT[name]).exists()


@pytest.mark.parametrize(
    ("name", "folder", "number"),
    [("voc2012", "voc_2012", 8), ("nuclei", "nuclei", 25), ("duts", "duts", 1), ("cub", "cub", 3)],
)
def test_running_again_and_in_parallel_gives_the_same_bytes(tmp_path, name, folder, number):
    def written():
        return {p: p.read_bytes() for p in (tmp_path / folder).rglob("*.*") if p.is_file()}

    prepare(name, tmp_path)
    first = written()
    prepare(name, tmp_path, "--workers", "2")
    assert written() == first and len(first) == number


@pytest.mark.parametrize(
    ("name", "words", "error", "message"),
    [
        ("nuclei", ("--val-fraction", "1"), ConfigError, "--val-fraction: found 1.0"),
        ("nuclei", ("--max-side", "10"), DataError, "no image has sides of at most 10 pixels"),
        ("duts", ("--min-share", "2"), ConfigError, "--min-share: found 2.0"),
        ("cub", ("--held-out", "-1"), ConfigError, "--held-out: found -1"),
        ("voc2012", ("--min-iou", "0"), ConfigError, "--min-iou: found 0.0"),
    ],
)
def test_options_are_checked(tmp_path, name, words, error, message):
    with pytest.raises(error, match=message):
        prepare(name, tmp_path, *words)


def test_command_exits_with_2(tmp_path, tool):
    status, _, errors = tool(SCRIPTS / "prepare_voc2012.py", "--root", tmp_path)
    assert status == 2 and "no such folder" in errors
