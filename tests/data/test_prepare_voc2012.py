"""The VOC 2012 / SBD converter on small trees of exactly the official form."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from wsis.data.builtin_paths import BUILTIN, BUILTIN_SEM_SEG
from wsis.data.registration import register_semantic
from wsis.data.semantic import check_truth, truth_reader
from wsis.data.source import load_source
from wsis.data.voc import VOC_CLASSES, image_id_of
from wsis.errors import DataError
from wsis.structures.pseudo_labels import voc_palette
from wsis.structures.rle import decode_mask

SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_voc2012.py"
HEIGHT, WIDTH = 40, 60

XML = """<annotation>
	<folder>VOC2012</folder>
	<filename>{name}.jpg</filename>
	<source><database>The VOC2007 Database</database><image>flickr</image></source>
	<size><width>{width}</width><height>{height}</height><depth>3</depth></size>
	<segmented>1</segmented>
{objects}</annotation>
"""
OBJECT = """	<object>
		<name>{name}</name>
		<pose>Left</pose>
		<truncated>1</truncated>
		<difficult>{difficult}</difficult>
		<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
		{extra}
	</object>
"""
PART = """<part><name>head</name>
		<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"""

# name -> [(class, xmin, ymin, xmax, ymax, difficult, has a part)], as the XML states them
OBJECTS: dict[str, list[tuple[Any, ...]]] = {
    "2007_000032": [("person", 1, 1, 20, 30, 0, True), ("dog", 31, 11, 60, 40, 1, False)],
    "2007_000039": [  # two of one class, and one without a mask
        ("car", 1, 5, 30, 24, 0, False),
        ("car", 33, 5, 48, 24, 0, False),
        ("bird", 50, 1, 56, 7, 0, False),
    ],
    "2007_000033": [
        ("aeroplane", 6, 6, 25, 25, 0, False)
    ],  # val; a second instance has no XML object
    "2008_000002": [  # SBD only; decimal numbers, instances in another order
        ("tvmonitor", "10.70", "5.2", "30.70", "25.2", 0, False),
        ("sofa", 31, 1, 50, 20, 0, False),
        ("sofa", 1, 31, 4, 34, 1, False),
    ],
    "2008_000003": [("cat", 1, 1, 60, 40, 0, False)],  # SBD only
}
VOC_TRAIN, VOC_VAL = ["2007_000032", "2007_000039"], ["2007_000033"]
SBD_TRAIN, SBD_VAL = ["2007_000032", "2008_000002"], ["2007_000033", "2008_000003"]


def class_id(name: str) -> int:
    return VOC_CLASSES.index(name) + 1


def write_xml(voc: Path, name: str, objects: list[tuple[Any, ...]]) -> None:
    text = "".join(
        OBJECT.format(*box, name=cls, difficult=difficult, extra=PART if part else "")
        for cls, *box, difficult, part in objects
    )
    path = voc / "Annotations" / f"{name}.xml"
    path.write_text(XML.format(name=name, width=WIDTH, height=HEIGHT, objects=text))


def ringed(shapes: list[tuple[int, tuple[int, int, int, int]]]) -> np.ndarray:
    """A map where each (value, half-open XYXY) is a rectangle within a void ring of 2 pixels."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for value, (x0, y0, x1, y1) in shapes:
        labels[y0:y1, x0:x1] = 255
        labels[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = value
    return labels


def write_png(path: Path, labels: np.ndarray) -> None:
    image = Image.fromarray(labels)
    image.putpalette(voc_palette())
    image.save(path)


def write_mats(
    sbd: Path, name: str, instances: list[tuple[str, tuple[int, int, int, int]]]
) -> None:
    labels, classes = np.zeros((2, HEIGHT, WIDTH), dtype=np.uint8)
    edges = np.empty((len(instances), 1), dtype=object)
    for k, (cls, (x0, y0, x1, y1)) in enumerate(instances, start=1):
        labels[y0:y1, x0:x1] = k
        classes[y0:y1, x0:x1] = class_id(cls)
        edges[k - 1, 0] = csc_matrix(labels == k)
    categories = np.array([[class_id(cls)] for cls, _ in instances], dtype=np.uint8)
    inst = {"Segmentation": labels, "Categories": categories, "Boundaries": edges}
    savemat(sbd / "inst" / f"{name}.mat", {"GTinst": inst})
    present = np.unique(categories)[:, None]
    cls_struct = {"Segmentation": classes, "CategoriesPresent": present, "Boundaries": edges}
    savemat(sbd / "cls" / f"{name}.mat", {"GTcls": cls_struct})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A datasets root with both official trees."""
    voc, sbd = tmp_path / "VOCdevkit" / "VOC2012", tmp_path / "benchmark_RELEASE" / "dataset"
    for name in ("Annotations", "JPEGImages", "SegmentationObject", "SegmentationClass"):
        (voc / name).mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name in ("inst", "cls"):
        (sbd / name).mkdir(parents=True)
    for name, objects in OBJECTS.items():
        write_xml(voc, name, objects)
        Image.new("RGB", (WIDTH, HEIGHT)).save(voc / "JPEGImages" / f"{name}.jpg")
    for folder, key in (("SegmentationObject", 0), ("SegmentationClass", 1)):
        first = [((1, 15)[key], (0, 0, 20, 30)), ((2, 12)[key], (30, 10, 60, 40))]
        write_png(voc / folder / "2007_000032.png", ringed(first))
        second = ringed([((1, 7)[key], (0, 4, 30, 24)), ((2, 7)[key], (32, 4, 48, 24))])
        write_png(voc / folder / "2007_000039.png", second)
        third = [((1, 1)[key], (5, 5, 25, 25)), ((2, 15)[key], (40, 10, 50, 20))]
        write_png(voc / folder / "2007_000033.png", ringed(third))
    write_mats(sbd, "2007_000032", [("cow", (0, 0, 9, 9))])  # VOC's own masks must win
    write_mats(sbd, "2007_000033", [("cow", (0, 0, 9, 9))])
    write_mats(
        sbd,
        "2008_000002",
        [("sofa", (30, 0, 50, 20)), ("tvmonitor", (10, 5, 30, 25)), ("sofa", (30, 25, 60, 40))],
    )
    write_mats(sbd, "2008_000003", [("cat", (0, 0, 60, 40))])
    for path, names in (
        (voc / "ImageSets" / "Segmentation" / "train.txt", VOC_TRAIN),
        (voc / "ImageSets" / "Segmentation" / "val.txt", VOC_VAL),
        (sbd / "train.txt", SBD_TRAIN),
        (sbd / "val.txt", SBD_VAL),
    ):
        path.write_text("".join(f"{name}\n" for name in names))
    return tmp_path


def prepare(root: Path, *arguments: str) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    main(["--root", str(root), "--workers", "1", *arguments])


def read(root: Path, name: str) -> dict[str, Any]:
    return json.loads((root / BUILTIN[name][0]).read_text())


def of_image(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [a for a in document["annotations"] if a["image_id"] == image_id_of(name)]


def test_boxes_are_one_based_inclusive(root: Path) -> None:
    prepare(root)
    document = read(root, "voc_2012_trainaug_boxes")
    person, dog = of_image(document, "2007_000032")
    assert person["bbox"] == [0, 0, 20, 30] and dog["bbox"] == [30, 10, 30, 30]
    assert (person["category_id"], dog["category_id"]) == (15, 12)
    assert (person["difficult"], dog["difficult"]) == (0, 1)
    assert person["area"] == 600
    monitor = of_image(document, "2008_000002")[0]
    assert monitor["bbox"] == pytest.approx([9.7, 4.2, 21.0, 21.0])
    assert all(a["iscrowd"] == 0 for a in document["annotations"])


def test_sets_ids_and_categories(root: Path) -> None:
    prepare(root)
    masked, boxes = read(root, "voc_2012_trainaug"), read(root, "voc_2012_trainaug_boxes")
    stems = ["2007_000032", "2007_000039", "2008_000002", "2008_000003"]
    assert [i["file_name"] for i in boxes["images"]] == [f"{s}.jpg" for s in stems]
    assert boxes["images"][0]["id"] == 2007000032
    assert [i["id"] for i in read(root, "voc_2012_val_instances")["images"]] == [2007000033]
    names = {c["id"]: c["name"] for c in boxes["categories"]}
    assert names == dict(enumerate(VOC_CLASSES, start=1)) and sorted(VOC_CLASSES) == [*VOC_CLASSES]
    assert [a["id"] for a in boxes["annotations"]] == list(range(1, 10))
    same = ("id", "image_id", "category_id", "bbox", "difficult")
    for with_mask, without in zip(masked["annotations"], boxes["annotations"], strict=True):
        assert all(with_mask[key] == without[key] for key in same)
    for name in ("voc_2012_trainaug_boxes", "voc_2012_trainaug", "voc_2012_val_instances"):
        source = load_source(root / BUILTIN[name][0], root / BUILTIN[name][1])
        assert source.has_masks == (not name.endswith("boxes"))


def test_boxes_file_holds_nothing_of_a_mask(root: Path) -> None:
    prepare(root)
    text = (root / BUILTIN["voc_2012_trainaug_boxes"][0]).read_text()
    assert "segmentation" not in text and "void" not in text and "counts" not in text
    boxes = json.loads(text)
    assert all(a["area"] == a["bbox"][2] * a["bbox"][3] for a in boxes["annotations"])


def test_the_official_train_images_have_true_labels_of_their_own(root: Path) -> None:
    prepare(root)
    train, masked = read(root, "voc_2012_train_instances"), read(root, "voc_2012_trainaug")
    assert [image["file_name"] for image in train["images"]] == [f"{s}.jpg" for s in VOC_TRAIN]
    assert train["annotations"] == [
        a for name in VOC_TRAIN for a in of_image(masked, name)
    ]  # ids too
    json_file, images, folders = BUILTIN_SEM_SEG["voc_2012_train_semantic"]
    labels = {name: str(root / folder) for name, folder in folders.items()}
    register_semantic("voc_train_test", str(root / json_file), str(root / images), labels)
    check_truth("voc_train_test")
    label_of = truth_reader("voc_train_test")
    for image, name in zip(train["images"], VOC_TRAIN, strict=True):
        png = root / "VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png"
        assert np.array_equal(label_of(image), np.array(Image.open(png)))


def test_void_is_neither_object_nor_background(root: Path) -> None:
    prepare(root)
    document = read(root, "voc_2012_trainaug")
    image = document["images"][0]
    labels = np.array(Image.open(root / "VOCdevkit/VOC2012/SegmentationObject/2007_000032.png"))
    assert np.array_equal(decode_mask(image["void"]), labels == 255)
    for k, annotation in enumerate(of_image(document, "2007_000032"), start=1):
        mask = decode_mask(annotation["segmentation"])
        assert np.array_equal(mask, labels == k)
        assert annotation["area"] == mask.sum()
    assert "void" not in document["images"][2]  # SBD knows no void


def test_voc_masks_follow_the_order_of_the_xml(root: Path) -> None:
    prepare(root)
    left, right, bird = of_image(read(root, "voc_2012_trainaug"), "2007_000039")
    labels = np.array(Image.open(root / "VOCdevkit/VOC2012/SegmentationObject/2007_000039.png"))
    assert np.array_equal(decode_mask(left["segmentation"]), labels == 1)
    assert np.array_equal(decode_mask(right["segmentation"]), labels == 2)
    assert "segmentation" not in bird and bird["area"] == 49


def test_sbd_masks_are_matched_by_class_and_iou(root: Path) -> None:
    prepare(root)
    monitor, sofa, small_sofa = of_image(read(root, "voc_2012_trainaug"), "2008_000002")
    mask = decode_mask(monitor["segmentation"])
    assert mask[5:25, 10:30].all() and mask.sum() == 400
    mask = decode_mask(sofa["segmentation"])
    assert mask[:20, 30:50].all() and mask.sum() == 400
    assert "segmentation" not in small_sofa and small_sofa["difficult"] == 1


def test_min_iou_is_obeyed(root: Path) -> None:
    prepare(root, "--min-iou", "0.99")
    monitor, sofa, _ = of_image(read(root, "voc_2012_trainaug"), "2008_000002")
    assert "segmentation" not in monitor and "segmentation" in sofa


def test_val_has_every_mask_instance(root: Path) -> None:
    prepare(root)
    plane, person = read(root, "voc_2012_val_instances")["annotations"]
    assert plane["bbox"] == [5, 5, 20, 20] and plane["area"] == 16 * 16  # box of the XML
    assert person["bbox"] == [42, 12, 6, 6] and person["category_id"] == 15  # no XML object: tight
    assert (plane["id"], person["id"]) == (1, 2)


def test_class_pngs(root: Path) -> None:
    prepare(root)
    json_file, _, folders = BUILTIN_SEM_SEG["voc_2012_trainaug_semantic"]
    folder = root / folders["sem_seg"]
    names = [
        Path(i["file_name"]).stem for i in json.loads((root / json_file).read_text())["images"]
    ]
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.png" for name in names]
    with Image.open(folder / "2007_000032.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[15 * 3 : 15 * 3 + 3] == [192, 128, 128]  # VOC's colour of person
        own = Image.open(root / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png")
        assert np.array_equal(np.array(image), np.array(own))
    sbd = np.array(Image.open(folder / "2008_000002.png"))
    assert sbd[10, 12] == 20 and sbd[0, 0] == 0 and sbd[10, 40] == 18


def test_running_again_and_in_parallel_gives_the_same_bytes(root: Path) -> None:
    prepare(root)
    first = {p: p.read_bytes() for p in (root / "voc_2012").rglob("*.*") if p.is_file()}
    prepare(root, "--workers", "2")
    second = {p: p.read_bytes() for p in (root / "voc_2012").rglob("*.*") if p.is_file()}
    assert first == second and len(first) == 4 + 4


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
        "SegmentationObject/2007_000033.png: found 6x5 pixels, expected 60x40",
    ),
    "colour PNG": (
        lambda r: Image.new("RGB", (60, 40)).save(r / VOC / "SegmentationClass/2007_000033.png"),
        "SegmentationClass/2007_000033.png: found Pillow mode RGB, expected labels",
    ),
    "unknown label": (
        lambda r: write_png(
            r / VOC / "SegmentationClass/2007_000033.png", np.full((40, 60), 21, np.uint8)
        ),
        "found label 21, expected 0..20 or 255",
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
