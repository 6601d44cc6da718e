"""Small trees of exactly the official form of VOC 2012 and SBD."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from wsis.data.builtin_paths import BUILTIN
from wsis.data.voc import VOC_CLASSES, image_id_of
from wsis.structures.pseudo_labels import voc_palette

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


def write_tree(tmp_path: Path) -> Path:
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
